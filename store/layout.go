package store

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// bucket names a bucket of blocks.db. The numbers are part of the segment format.
type bucket byte

const (
	bucketState     bucket = iota // "state" -> the counters and settings
	bucketIDs                     // 16 bits of the hash of user IDs -> further bits and ordinals
	bucketFacts                   // kind, name, value -> fact number
	bucketNames                   // fact number -> kind, name, value
	bucketCounts                  // fact number -> how many users it is true of
	bucketMessages                // sequence -> message, until its task ends
	bucketTasks                   // sequence -> task, until it is forgotten
	bucketProgress                // sequence -> progress, as long as the task
	bucketPhones                  // sequence, platform -> checkpoint, as long as the task
	bucketRetries                 // sequence, platform, ordinal, token -> attempt, due
	bucketKeys                    // sender, key -> sequence, hash, time
	bucketDue                     // kind, time, what -> nothing: what is to be done when
	bucketTokens                  // hash of platform and token -> ordinal
	bucketAudiences               // sequence, block -> the audience; of a task that notifies all of it, while phones are to be, and of one that is kept
	bucketSaved                   // name -> a saved audience
	bucketPlans                   // plan -> its record, until it is forgotten
	bucketPlanKeys                // key of a plan -> plan, as long as that
	bucketPlanTasks               // plan, sequence -> nothing: the tasks of a plan, as long as they are
	bucketFrozen                  // plan, run, block -> who is still to be pushed to
	bucketCaps                    // window, category, level, block -> who has had so many messages of it in it
	bucketHistory                 // sequence -> samples of its progress, as long as the task
	bucketRecalls                 // sequence -> what phones are told of a message that was withdrawn, until they are
	bucketMissed                  // sequence, block -> who still waited at the end; of a task that is kept, and while a recall lasts
	bucketBlocks                  // block, kind, rest -> everything of a block
	buckets
)

var bucketName = [buckets][]byte{
	[]byte("state"), []byte("ids"), []byte("facts"), []byte("names"), []byte("counts"),
	[]byte("messages"), []byte("tasks"), []byte("progress"), []byte("phones"), []byte("retries"),
	[]byte("keys"), []byte("due"), []byte("tokens"), []byte("audiences"), []byte("saved"),
	[]byte("plans"), []byte("plankeys"), []byte("plantasks"), []byte("frozen"), []byte("caps"), []byte("history"), []byte("recalls"), []byte("missed"), []byte("blocks"),
}

// The kinds of keys within a block, in key order.
const (
	kindDevice  = 'd' // low half -> the user's devices
	kindFact    = 'f' // fact number -> posting container
	kindOpener  = 'o' // sequence -> who has opened the message
	kindPending = 'p' // sequence -> pending container
	kindAsleep  = 's' // sequence and platform -> who is passed over because of quiet hours
	kindUser    = 'u' // group of users -> their records; in deltas and segments low half -> user record
)

// messageKinds are those of sets that there are for each message, in key order.
var messageKinds = [...]byte{kindOpener, kindPending, kindAsleep}

func isMessageKind(kind byte) bool { return slices.Contains(messageKinds[:], kind) }

// The kinds of facts, first byte of a key of bucketFacts.
const (
	factTag        = 't'
	factOut        = 'o' // followed by a category: wants no messages of it
	factAttr       = 'a' // followed by the slot
	factPlatform   = 'p'
	factHas        = 'h' // followed by the slot: has the attribute, whatever its value
	factBit        = 'b' // followed by slot and bit: of a number or a date, the bit of its magnitude, or that it is negative
	factLanguage   = 'l'
	factTimeZone   = 'z'
	factRegistered = 'r' // followed by the day, u32
	factSeen       = 's' // followed by the day, u32: the last one with a connection
)

// The bits of a number: those of its magnitude from 0, and the one that says that it is below zero.
const (
	magnitudeBits = 60
	signBit       = 63
)

// existsFact is the number of the fact that is true of every user.
const existsFact = 0

// The kinds of due entries, first byte of a key of bucketDue.
const (
	dueExpire = 'e' // expiry, sequence: the message expires
	dueForget = 'f' // time, sequence: the ended task is forgotten
	dueKey    = 'k' // time, key of bucketKeys: the idempotency key is forgotten
	dueOnline = 'o' // 0, sequence: the outcome of a lifetime 0 push is still to come
	duePhone  = 'p' // 0, sequence, platform: phones are still to be notified
	dueCaps   = 'c' // end of a window, window and category: what was counted in it is forgotten
	duePlan   = 'l' // time, plan: its next step is to be made
	// time, plan: the ended plan is forgotten
	dueForgetPlan = 'm'
)

var stateKey = []byte("state")

func key32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
func key64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func blockKey(block uint16, kind byte) []byte {
	return []byte{byte(block >> 8), byte(block), kind}
}

func userKey(block, low uint16) []byte {
	return []byte{byte(block >> 8), byte(block), kindUser, byte(low >> 8), byte(low)}
}

// groupKey is the key of blocks.db under which the record of a user stands.
func groupKey(block, low uint16) []byte {
	return userKey(block, low/groupUsers)
}

func deviceKey(block, low uint16) []byte {
	return []byte{byte(block >> 8), byte(block), kindDevice, byte(low >> 8), byte(low)}
}

func factKey(block uint16, fact uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{byte(block >> 8), byte(block), kindFact}, fact)
}

func pendingKey(block uint16, seq uint64) []byte { return messageKey(block, kindPending, seq) }

// messageKey is the key of a set of users of a message: who waits for it, or has opened it.
func messageKey(block uint16, kind byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{byte(block >> 8), byte(block), kind}, seq)
}

// maxPlatforms is how many a message may be for: [asleepOf] has the number of one in a byte.
const maxPlatforms = 1 << 8

// asleepOf stands in the place of a sequence for a message on one of its platforms, in sets of [kindAsleep].
func asleepOf(seq uint64, platform byte) uint64 { return seq<<8 | uint64(platform) }

func tagFactKey(tag string) string                { return string(appendTagFact(nil, tag)) }
func attrFactKey(slot uint8, value string) string { return string(appendAttrFact(nil, slot, value)) }

func appendTagFact(b []byte, tag string) []byte { return append(append(b, factTag), tag...) }
func appendAttrFact(b []byte, slot uint8, value string) []byte {
	return append(append(b, factAttr, slot), value...)
}
func platformFactKey(platform string) string { return string(factPlatform) + platform }
func appendOutFact(b []byte, category string) []byte {
	return append(append(b, factOut), category...)
}
func languageFactKey(tag string) string  { return string(factLanguage) + tag }
func timeZoneFactKey(name string) string { return string(factTimeZone) + name }

func appendHasFact(b []byte, slot uint8) []byte      { return append(b, factHas, slot) }
func appendBitFact(b []byte, slot, bit uint8) []byte { return append(b, factBit, slot, bit) }
func appendDayFact(b []byte, kind byte, day uint32) []byte {
	return binary.BigEndian.AppendUint32(append(b, kind), day)
}

func dueKeyOf(kind byte, at int64, what []byte) []byte {
	k := binary.BigEndian.AppendUint64([]byte{kind}, uint64(at))
	return append(k, what...)
}

func phoneKey(seq uint64, platform string) []byte { return append(key64(seq), platform...) }

func audienceKey(seq uint64, block uint16) []byte {
	return binary.BigEndian.AppendUint16(key64(seq), block)
}

func retryKey(seq uint64, platform string, p *PhoneRetry) []byte {
	k := append(key64(seq), byte(len(platform)))
	k = append(k, platform...)
	k = binary.BigEndian.AppendUint32(k, p.Ordinal)
	return append(k, p.Token[:]...)
}

// keyKey is the key of bucketKeys: a hash, because sender and key may be long.
func keyKey(sender, key string) []byte {
	h := sha256.New()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(sender)))
	h.Write(n[:])
	h.Write([]byte(sender))
	h.Write([]byte(key))
	return h.Sum(nil)[:20]
}

// HashToken is the name of a device in keys: the first half of the SHA-256 of
// platform, a zero byte and token.
func HashToken(platform, token string) (h [16]byte) {
	sum := sha256.Sum256([]byte(platform + "\x00" + token))
	copy(h[:], sum[:])
	return h
}

func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
