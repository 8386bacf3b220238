"""Tags of AWS resources and labels of Kubernetes objects, in one place."""

from aivo_backup.policy.names import PROJECT
from infra.settings import Settings


def aws_tags(settings: Settings, *, component: str, data_class: str) -> dict[str, str]:
    """Tags of one resource.

    Args:
        component: the store or part that it belongs to.
        data_class: the retention class of what it holds: ``operational``, ``compliance``, ``audit`` or ``none``.
    """
    return {
        "Project": PROJECT,
        "Environment": settings.environment,
        "Owner": settings.owner,
        "Component": component,
        "DataClass": data_class,
        "ManagedBy": "pulumi",
    }


def labels(settings: Settings, *, name: str, component: str) -> dict[str, str]:
    """The recommended labels of one Kubernetes object."""
    return {
        "app.kubernetes.io/name": name,
        "app.kubernetes.io/instance": settings.environment,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": PROJECT,
        "app.kubernetes.io/managed-by": "pulumi",
    }
