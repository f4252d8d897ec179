// Linkerd's rule installer, as its init container runs it.
package main

import (
	"os"

	"github.com/linkerd/linkerd2-proxy-init/cmd"
)

func main() {
	if cmd.NewRootCmd().Execute() != nil {
		os.Exit(1)
	}
}
