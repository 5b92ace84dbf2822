module github.com/fanfare-im/fanfare/examples/server

go 1.26.0

require (
	github.com/coder/websocket v1.8.15
	github.com/fanfare-im/fanfare v0.0.0
	go.uber.org/goleak v1.3.0
)

replace github.com/fanfare-im/fanfare => ../..
