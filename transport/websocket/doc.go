// Package websocket reaches users over WebSockets: a [Hub] holds their connections, writes what is pushed to them, and takes their
// acknowledgements. It is for hosts that have no connections of their own yet, on github.com/coder/websocket, which only those who import this package pay for.
//
//	hub := websocket.New(websocket.Options{})
//	p, err := fanfare.Open("data", fanfare.Options{Online: hub})
//	http.Handle("GET /ws", hub.Handler(p, func(r *http.Request) (user string, err error) {
//		return sessions.User(r) // the host knows its users by a cookie, say
//	}))
//
// Who connects is known to the Pusher from then on, and online. When a client's socket is open, the Pusher can deliver to it.
//
// # The protocol
//
// To the client goes a text frame a message:
//
//	{"id":"…","from":"…","time":1767225600000,"body":…}
//
// id is the message's ID, of 32 characters, the same when the message comes again; from is its sender, which may be empty; time is when it was pushed, in
// milliseconds since 1970; body is the body of the push: where that is JSON, as it is, else a string. One that is not UTF-8 is no text, and
// comes as "raw", in base64, in the place of "body". [Options].Encode replaces all of this.
//
// From the client comes a text frame once it has kept a message:
//
//	{"ack":"…"}
//
// with the message's id. It counts for everything that came before it on this connection, too, and so goes over the connection that the message came over: a client
// that keeps messages in its own time, and has another connection by then, lets the message come again. What is not acknowledged in
// fanfare.Options.AckTimeout, or by the next connection, comes again, in order and with the same id; after 64 such messages the Pusher waits. A
// client does not show again what it has shown. A message to users online now, without a lifetime, need not be acknowledged, but may.
//
// A message is for the user: what one connection has acknowledged is not sent to another later. When one more connection of a user opens, all
// of them get again what is not acknowledged, because what went to another one, perhaps a dead one, may not have been received.
//
// A client in a browser is this, with a pause before it connects again that grows and is not the same for all:
//
//	const seen = new Set()
//	let pause = 500
//	function connect() {
//	  const ws = new WebSocket(`wss://${location.host}/ws`)
//	  ws.onopen = () => { pause = 500 }
//	  ws.onmessage = ({data}) => {
//	    const {id, from, time, body} = JSON.parse(data)
//	    if (!seen.has(id)) show(from, time, body)
//	    seen.add(id)
//	    ws.send(JSON.stringify({ack: id}))
//	  }
//	  ws.onclose = () => {
//	    setTimeout(connect, pause * (1 + Math.random()))
//	    pause = Math.min(2 * pause, 30000)
//	  }
//	}
//	connect()
//
// The server closes with
//
//   - 1001 when it stops;
//   - 1008 for what the reason says: "too slow" ([Options].Queue), "too many connections" ([Options].MaxConnections), "kicked" ([Hub.Kick]), "the account was
//     deleted", "ack: no such message", or that a frame is none of these;
//   - 1009 for a frame larger than [Options].ReadLimit;
//   - 1013 when a login of the user could not be written to the disk.
//
// An acknowledgement that could not be written is in the log, and the message comes again on the same connection.
//
// A connection whose client does not answer a ping is cut off ([Options].PingEvery). A login is looked at when the client connects, and not later: who may not
// be connected any more is kicked, and so is who was unregistered: such a user's connections get nothing more, also if the same ID is registered again.
//
// # The end of a process
//
// Each step needs the next, so a host stops in this order:
//
//	hub.Stop()           // nobody new comes in
//	server.Shutdown(ctx) // requests end, and with them what they push
//	p.Drain(ctx)         // pushes to those online now get to them
//	hub.Shutdown(ctx)    // queues are written, acks applied, and connections closed with 1001
//	p.Close(ctx)
package websocket
