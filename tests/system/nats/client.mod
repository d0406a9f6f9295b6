module client

go 1.21

require github.com/nats-io/nats.go v1.39.1
