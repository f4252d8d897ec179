module tcpcrypt/bench/forwarder

go 1.19
