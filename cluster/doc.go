// Package cluster runs a [fanfare.Pusher] on several machines: each applies the same commands, in the order of a
// replicated NATS JetStream stream, and delivers to the users who are connected to it.
//
// [Open] gives a Pusher with the same methods as that of one process. docs/cluster.md says what is promised under which failures.
package cluster
