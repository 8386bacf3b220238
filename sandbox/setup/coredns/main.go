// CoreDNS with the plugins that the sandbox's cluster needs, and no others: a sixth of the full one's compilation.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
)

func main() {
	// The order in which they handle a question.
	dnsserver.Directives = []string{"bind", "reload", "ready", "errors", "kubernetes"}
	coremain.Run()
}
