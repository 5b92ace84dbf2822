// Package centrifuge brings the messages of a Pusher to the clients of a centrifuge node (github.com/centrifugal/centrifuge), over the
// connections that the host has with them anyway. It has the name of the package that it adapts, so a host imports it under another:
//
//	import (
//		"github.com/centrifugal/centrifuge"
//
//		"github.com/fanfare-im/fanfare"
//		fanfarecentrifuge "github.com/fanfare-im/fanfare/transport/centrifuge"
//	)
//
// A node has one handler for each event, and it stays the host's: the host calls the [Hub] in three of them, in a line each.
//
//	hub := fanfarecentrifuge.New(node, fanfarecentrifuge.Options{})
//	p, err := fanfare.Open(dir, fanfare.Options{Online: hub})
//	…
//	hub.Attach(p)
//	node.OnConnect(func(client *centrifuge.Client) {
//		client.OnDisconnect(func(centrifuge.DisconnectEvent) { hub.Leave(client) })
//		client.OnRPC(func(e centrifuge.RPCEvent, reply centrifuge.RPCCallback) {
//			if !hub.RPC(client, e, reply) {
//				reply(…) // a call for the host
//			}
//		})
//		err := hub.Join(client)
//	})
//
// The user is who the connection's credentials say, [centrifuge.Client.UserID].
//
// # What clients see
//
// A message comes as an asynchronous message of centrifuge's, not as a publication in a channel: publishing succeeds also where nobody is
// subscribed, while the library must know whether a connection took it; and a channel for each user would cost memory for nothing. It is an object with the one key
// "fanfare", by which it is told from what else the host sends:
//
//	{"fanfare":{"id":"…","from":"operator","time":1764288000000,"body":{"text":"Hello"}}}
//
// time is when it was pushed, in milliseconds since 1970. body is the message's body: the JSON that it is, or else a string; what is not UTF-8 has none. Where that is not
// what was pushed byte for byte, because there is white space between the parts of the JSON, or because it is no JSON, raw is the body in base64 beside it. So push JSON, without
// white space: it is sent once.
//
// IDs sort in the order of the pushes. Messages come in that order, but for what comes again, and for one that was under way when a connection was lost: a client that shows them sorts by ID.
//
// The client acknowledges with the RPC "fanfare.ack" what it has kept, up to 256 messages in a call. A client in JavaScript:
//
//	const client = new Centrifuge('wss://example.com/connection/websocket', {token})
//	const acks = []
//	client.on('message', ({data}) => {
//	  const m = data.fanfare
//	  if (!m) return                             // one of the host's own
//	  if (!kept(m.id)) keep(m)                   // the same one may come again, with the same id
//	  if (acks.push(m.id) === 1) setTimeout(() => {
//	    for (const ids = acks.splice(0); ids.length;) {
//	      client.rpc('fanfare.ack', {ids: ids.splice(0, 256)}).catch(() => {}) // it comes again
//	    }
//	  }, 50)
//	})
//	client.connect()
//
// The answer, {}, comes when the acknowledgement is on the disk. What is not acknowledged comes again, in order: after Options.AckTimeout, at the next connection, and
// whenever one more connection of the user opens, on all of them, because nobody knows whether the others live. What one connection has acknowledged is not sent to
// one that opens later: a message is for the user. [fanfare.Pusher.AckThrough] has no place here: one connection does not know what another lost.
//
// A user has 16 connections at most, and the oldest goes for a new one (Config.UserConnectionLimit of the node refuses the new one instead, if it is lower). One to which more waits to be
// written than Config.ClientQueueMaxSize is closed by the node, and what was lost comes again: up to 64 messages wait there at once when somebody comes back, so it is to be more than the frames of the 64 largest
// that a host pushes. 1 MB, the default, is enough for bodies of 12 KiB of JSON without white space.
//
// # The end
//
// A host that stops ends these in this order: its HTTP server, the pushes to those who are connected ([fanfare.Pusher.Drain]), the node, which writes what it has
// taken for its clients and lets the hub take them offline, and [fanfare.Pusher.Close]. Acknowledgements that come too late are lost, and the messages come again, at the next start.
//
// # Several nodes
//
// The hub knows the connections of the node in its own process, where the Pusher is. With several nodes, of which most have no Pusher, the process with the Pusher needs a
// [transport.Batcher] of the host's own instead: it hands each batch to the nodes that its users are on, which answer who has taken it, and tell it who comes, goes and acknowledges.
//
// The package is a module of its own, as centrifuge has breaking versions below 1: a host that does not use it has nothing to do with them.
package centrifuge
