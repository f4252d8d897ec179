// A pair of these is what a mesh's proxies do, and no more: one end takes plain TCP and gives mutual TLS 1.3, the
// other takes TLS and gives plain TCP, with Go's own crypto/tls and io.Copy.
//
//	forwarder client CERT KEY CA no-resume|resume LISTEN=CONNECT...
//	forwarder server CERT KEY CA no-resume|resume LISTEN=CONNECT...
//
// It writes "ready" once every address is listened on.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

func main() {
	if len(os.Args) < 7 || (os.Args[1] != "client" && os.Args[1] != "server") {
		fmt.Fprintln(os.Stderr, "usage: forwarder client|server CERT KEY CA no-resume|resume LISTEN=CONNECT...")
		os.Exit(2)
	}
	isClient := os.Args[1] == "client"
	config := tlsConfig(os.Args[2], os.Args[3], os.Args[4], os.Args[5] == "resume")
	for _, route := range os.Args[6:] {
		from, to, _ := strings.Cut(route, "=")
		listener, err := net.Listen("tcp", from)
		check(err)
		go serve(listener, to, config, isClient)
	}
	fmt.Println("ready")
	select {}
}

func tlsConfig(cert, key, ca string, resume bool) *tls.Config {
	pair, err := tls.LoadX509KeyPair(cert, key)
	check(err)
	pem, err := os.ReadFile(ca)
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS13,
		// For the client; the certificate's name is the benchmark's.
		RootCAs:    pool,
		ServerName: "bench",
		// For the server.
		ClientCAs:              pool,
		ClientAuth:             tls.RequireAndVerifyClientCert,
		SessionTicketsDisabled: !resume,
	}
	if resume {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(64)
	}
	return config
}

func serve(listener net.Listener, to string, config *tls.Config, isClient bool) {
	for {
		accepted, err := listener.Accept()
		check(err)
		go func() {
			defer accepted.Close()
			dialed, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer dialed.Close()
			if isClient {
				join(accepted, tls.Client(dialed, config))
			} else {
				join(tls.Server(accepted, config), dialed)
			}
		}()
	}
}

// join copies both ways, and hands the end of each direction on.
func join(a, b net.Conn) {
	done := make(chan struct{}, 2)
	one := func(to, from net.Conn) {
		io.Copy(to, from)
		if half, ok := to.(interface{ CloseWrite() error }); ok {
			half.CloseWrite()
		}
		done <- struct{}{}
	}
	go one(a, b)
	go one(b, a)
	<-done
	<-done
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "forwarder:", err)
		os.Exit(1)
	}
}
