// Package phonekill has no code but tests of a Pusher with both senders: processes that are killed while they notify phones, and what each
// answer of the services comes to.
package phonekill
