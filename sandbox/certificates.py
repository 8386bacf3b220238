"""The sandbox's own certificate authority and the certificates of its servers and pgBackRest clients."""

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = timedelta(days=400)
_RENEW_BEFORE = timedelta(days=7)
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A certificate and its private key, as PEM files (the key readable by its owner alone)."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority kept in a folder; made on first use, kept until shortly before it expires."""

    def __init__(self, folder: Path, *, now: datetime) -> None:
        """
        Args:
            folder: holds ``ca.pem`` and ``ca.key``.
            now: timezone-aware UTC; the validity of what is made counts from it.
        """
        self.certificate = folder / "ca.pem"
        self._key_file = folder / "ca.key"
        self._now = now
        folder.mkdir(parents=True, exist_ok=True)
        if not self._current(self.certificate) or not self._key_file.is_file():
            self._make_authority()
        self._issuer = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        key = serialization.load_pem_private_key(self._key_file.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{self._key_file} holds no elliptic curve key")
        self._issuer_key = key

    def issue(self, identity: Identity, *, name: str, hosts: tuple[str, ...] = ()) -> Identity:
        """Makes the certificate unless a valid one by this authority, for this name and these hosts, is there.

        Args:
            name: the common name; pgBackRest recognises its clients by it.
            hosts: DNS names and addresses the certificate is good for; with none it is a client's.
        """
        if identity.key.is_file() and self._fits(identity.certificate, name, hosts):
            return identity
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            self._builder(name, key.public_key())
            .issuer_name(self._issuer.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._issuer_key.public_key()), critical=False
            )
        )
        if hosts:
            names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._issuer_key, hashes.SHA256())
        _write_key(identity.key, key)
        _write(identity.certificate, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
        return identity

    def _make_authority(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = "aivo-backup sandbox"
        certificate = (
            self._builder(name, key.public_key())
            .issuer_name(_subject(name))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_authority_usage(), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write_key(self._key_file, key)
        _write(self.certificate, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)

    def _builder(self, name: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_subject(name))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - _CLOCK_SKEW)
            .not_valid_after(self._now + _LIFE)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )

    def _current(self, file: Path) -> bool:
        certificate = _load(file)
        return certificate is not None and certificate.not_valid_after_utc - _RENEW_BEFORE > self._now

    def _fits(self, file: Path, name: str, hosts: tuple[str, ...]) -> bool:
        certificate = _load(file)
        if certificate is None or not self._current(file) or certificate.subject != _subject(name):
            return False
        try:
            certificate.verify_directly_issued_by(self._issuer)
            found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return not hosts
        except Exception:  # noqa: BLE001 - whatever makes it unusable, it is made anew
            return False
        return list(found) == [_general_name(host) for host in hosts]


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _authority_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _load(file: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError):
        return None


def _write_key(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(file, pem, mode=0o600)


def _write(file: Path, content: bytes, *, mode: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(file.name + ".tmp")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(mode=mode)
    unfinished.write_bytes(content)
    unfinished.replace(file)
