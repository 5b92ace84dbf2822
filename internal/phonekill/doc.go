// Package phonekill has no code but a test: processes that notify phones through both senders, and that are killed while they do.
package phonekill
