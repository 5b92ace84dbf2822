package fanfare

import (
	"context"
	"iter"
	"strconv"
	"time"

	"github.com/fanfare-im/fanfare/store"
)

// PostingKind says what a [Posting] is about.
type PostingKind string

// The kinds.
const (
	PostingUser         PostingKind = "user"          // is known
	PostingTag          PostingKind = "tag"           // has it
	PostingAttribute    PostingKind = "attribute"     // has this value, of an attribute of type [Text]
	PostingHasAttribute PostingKind = "has attribute" // has a value, whichever
	PostingBit          PostingKind = "attribute bit" // has a number or a date with this bit, which comparisons are answered from
	PostingPlatform     PostingKind = "platform"      // has a device there
	PostingLanguage     PostingKind = "language"      // has a device of it, or of a narrower one
	PostingTimeZone     PostingKind = "time zone"     // has a device in it
	PostingOptOut       PostingKind = "opt-out"       // wants no messages of the category
	PostingRegistered   PostingKind = "registered"    // on the day
	PostingSeen         PostingKind = "seen"          // connected on the day, and on none since
)

var postingKinds = map[store.FactKind]PostingKind{
	store.FactUser: PostingUser, store.FactTag: PostingTag, store.FactAttr: PostingAttribute, store.FactHas: PostingHasAttribute, store.FactBit: PostingBit,
	store.FactPlatform: PostingPlatform, store.FactLanguage: PostingLanguage, store.FactTimeZone: PostingTimeZone, store.FactOut: PostingOptOut,
	store.FactRegistered: PostingRegistered, store.FactSeen: PostingSeen,
}

// Posting is something that is kept of users as a set of them, which audiences are made from.
type Posting struct {
	Kind  PostingKind // what is true of the users
	Slot  int         // of an attribute; else 0
	Value string      // the tag, value, platform, language, time zone, or category; the number of the bit, where 63 is the sign; the day, like "2026-11-28", by UTC
	Users int64       // of whom it is true
	Bytes int64       // that the set takes in blocks.db, without the changes that are not in the blocks yet
}

// Postings yields what is kept of users as sets of them: first who they are, then the kinds one after the other, and what is of one kind in the order of the bytes of its values. It
// goes through the sets of all users first, which takes memory for each of them (not for each user), and tells what takes the space of a directory; who
// only wants names has [Pusher.TagNames] and [Pusher.AttributeValues]. Nothing is held open between two of them. An error ends the iteration.
func (p *Pusher) Postings(ctx context.Context) iter.Seq2[Posting, error] {
	return func(yield func(Posting, error) bool) {
		if err := p.open(); err != nil {
			yield(Posting{}, err)
			return
		}
		for f, err := range p.store.Postings(ctx) {
			if err != nil {
				yield(Posting{}, err)
				return
			}
			of := Posting{Kind: postingKinds[f.Kind], Slot: int(f.Slot), Value: f.Value, Users: f.Users, Bytes: f.Bytes}
			switch f.Kind {
			case store.FactBit:
				of.Value = strconv.Itoa(int(f.Bit))
			case store.FactRegistered, store.FactSeen:
				of.Value = time.Unix(int64(f.Day)*24*60*60, 0).UTC().Format(time.DateOnly)
			}
			if !yield(of, nil) {
				return
			}
		}
	}
}
