// Package fanfare pushes one message to everyone, to everyone with a tag, or to
// everyone with certain attributes, and sees to it that it arrives: at once for
// those who are connected, on their phone for those who are not, and from an
// offline store, for up to 7 days, for those who come back later. It is
// embedded in an IM server or any other backend: one process, one directory, no
// other server.
//
// # Opening
//
// [Open] opens a directory and returns a [Pusher], which one process has at a
// time. The host says in [Options] how connected users are reached, by a
// [transport.Online], and phones, by a [transport.Mobile] for each platform.
//
//	p, err := fanfare.Open("data/fanfare", fanfare.Options{
//		Online: transport.OnlineFunc(func(ctx context.Context, user string, m *transport.Message) error {
//			return hub.Send(user, m.ID, m.Body)
//		}),
//	})
//
// [Pusher.Close] writes everything where the next Open finds it at once. A crash loses
// nothing that a call has acknowledged.
//
// # Users
//
// A user is known from [Pusher.Import], [Pusher.Register], or the first
// [Pusher.Connect], until [Pusher.Unregister]. Of each are kept tags
// ([Pusher.AddTags]), attributes in slots with names ([Pusher.SetAttributeNames],
// [Pusher.SetAttributes]), and the devices that notifications go to
// ([Pusher.RegisterDevice]). Changes that belong together are a [Batch], which
// [Pusher.Apply] makes in one durable step, all or none.
//
// # Audiences
//
// An [Audience] is an expression: [All], [Tag], [Attr], comparisons of numbers and
// dates ([Pusher.SetAttributeTypes], [AttrLess]), [Language], [SeenWithin], [Users], [Sample] and others,
// combined with And, Or and Not. It has a text form ([ParseAudience])
// and a JSON form, and may be saved under a name ([Pusher.SaveAudience]). [Pusher.Count] and [Pusher.Members] tell whom it means now.
//
// # Pushing
//
// [Pusher.Push] accepts a [Message]. When it returns, the push is durable and
// its audience frozen: what changes later changes nobody's place in it. The
// [Task] tells how far it has come ([Task.Progress]), and [Task.Wait] waits until
// everyone who was online has been tried. [Pusher.Withdraw] takes back what is still
// pending. A Key makes it safe to push again after an error.
//
// With a Lifetime the message waits for those who are away; with none it is for those
// who are connected now, and nobody else. With a [Notification] the phones of
// those who do not connect in time show it.
//
// # Sessions
//
// The host calls [Pusher.Connect] when a user's connection is ready and
// [Session.Close] when it is gone. What the user has missed is delivered first, in
// order, and then what comes. A message is done when Deliver returns nil, or, with a
// [transport.ClientAcker], when the host calls [Pusher.Ack] for the client.
// [Pusher.Pending] is what a user still waits for.
//
// # Care
//
// [Pusher.Backup] writes a copy of everything while the Pusher goes on, [Restore] makes a
// directory of it, [Pusher.Check] verifies every invariant of the files, and
// [Pusher.Compact] gives free space back.
//
// Errors are sentinels for errors.Is, such as [ErrUnknownUser], and a
// [*LimitError] for what is too large. After its Close every call of a Pusher returns [ErrClosed].
//
// docs/guarantees.md says exactly what is promised, docs/architecture.md how it is
// made, docs/format.md what is in the files.
package fanfare
