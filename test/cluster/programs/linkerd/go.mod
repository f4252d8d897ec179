module tcpcrypt.io/test/cluster/programs/linkerd

go 1.26.0

require github.com/linkerd/linkerd2-proxy-init v1.6.0

require (
	github.com/inconshreveable/mousetrap v1.0.0 // indirect
	github.com/sirupsen/logrus v1.8.1 // indirect
	github.com/spf13/cobra v1.5.0 // indirect
	github.com/spf13/pflag v1.0.5 // indirect
	golang.org/x/sys v0.0.0-20211205182925-97ca703d548d // indirect
)
