package main

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/fanfare-im/fanfare/transport/apns/apnstest"
	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

// fate is what a service has to say of a token.
type fate int

const (
	fine     fate = iota
	dead          // the app was removed
	stranger      // the token is of another app
	busy          // too many requests, once
	down          // not available, once
)

// strangers is the percentage of tokens of another app.
const strangers = 0.25

// luck decides the fate of tokens.
type luck struct {
	dead, busy float64 // percent

	mu  sync.Mutex
	had map[string]bool // tokens that had what comes once
}

func newLuck(dead, busy float64) *luck {
	return &luck{dead: dead, busy: busy, had: make(map[string]bool)}
}

// fate is drawn from the token, and so is the same in every run.
func (l *luck) fate(token string) fate {
	sum := sha256.Sum256([]byte(token))
	drawn := 100 * float64(binary.BigEndian.Uint32(sum[:])) / (1 << 32)
	for i, percent := range []float64{l.dead, strangers, l.busy, l.busy / 2} {
		if drawn < percent {
			return dead + fate(i)
		}
		drawn -= percent
	}
	return fine
}

// meet is the fate that a token meets now.
func (l *luck) meet(token string) fate {
	f := l.fate(token)
	if f != busy && f != down {
		return f
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.had[token] {
		return fine
	}
	l.had[token] = true
	return f
}

// apple answers in the words of APNs, with its statuses 410, 400, 429 and 503. Nil lets the simulator decide.
func (l *luck) apple(r *apnstest.Request) *apnstest.Answer {
	switch l.meet(r.Token) {
	case dead:
		return &apnstest.Answer{Reason: "Unregistered", Timestamp: time.Now()}
	case stranger:
		return &apnstest.Answer{Reason: "DeviceTokenNotForTopic"}
	case busy:
		return &apnstest.Answer{Reason: "TooManyRequests", RetryAfter: time.Second}
	case down:
		return &apnstest.Answer{Reason: "ServiceUnavailable"}
	}
	return nil
}

// google answers in the words of FCM, with its statuses 404, 403, 429 and 503.
func (l *luck) google(r *fcmtest.Request) *fcmtest.Answer {
	if r.Token == "" {
		return nil // no notification, but a request for an access token
	}
	switch l.meet(r.Token) {
	case dead:
		return &fcmtest.Answer{ErrorCode: "UNREGISTERED"}
	case stranger:
		return &fcmtest.Answer{ErrorCode: "SENDER_ID_MISMATCH"}
	case busy:
		return &fcmtest.Answer{ErrorCode: "QUOTA_EXCEEDED", RetryAfter: "1"}
	case down:
		return &fcmtest.Answer{ErrorCode: "UNAVAILABLE"}
	}
	return nil
}
