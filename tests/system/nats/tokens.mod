module tokens

go 1.21

require (
	github.com/nats-io/jwt/v2 v2.7.4
	github.com/nats-io/nkeys v0.4.11
)
