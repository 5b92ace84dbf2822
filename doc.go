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
// nothing that a call has acknowledged. To look only, also at the directory of a process that was
// killed, there is [Options].ReadOnly.
//
// # Users
//
// A user is known from [Pusher.Import], [Pusher.Register], or the first
// [Pusher.Connect], until [Pusher.Unregister]. Of each are kept tags
// ([Pusher.AddTags]), attributes in slots with names ([Pusher.SetAttributeNames],
// [Pusher.SetAttributes]), and the devices that notifications go to
// ([Pusher.RegisterDevice]). Changes that belong together are a [Batch], which
// [Pusher.Apply] makes in one durable step, all or none. [Pusher.User] is what is known of one.
//
// # Audiences
//
// An [Audience] is an expression: [All], [Tag], [Attr], comparisons of numbers and
// dates ([Pusher.SetAttributeTypes], [AttrLess]), [Language], [SeenWithin], [Users], [Sample] and
// others, combined with And, Or and Not. It has a text form ([ParseAudience]) for people and a JSON form
// for programs, and may be saved under a name ([Pusher.SaveAudience]) and used by it ([Saved]).
// [Pusher.Count] and [Pusher.Members] tell whom it means now; [Pusher.TagNames] and
// [Pusher.AttributeValues] what there is to ask for.
//
// # Pushing
//
// [Pusher.Push] accepts a [Message]. When it returns, the push is durable and
// its audience frozen: what changes later changes nobody's place in it. With a Lifetime the message waits
// for those who are away; with none it is for those who are connected now, and nobody else. A Key makes it safe
// to push again after an error.
//
//	task, err := p.Push(ctx, fanfare.Message{
//		From: "advisor", Body: body, Lifetime: 7 * 24 * time.Hour,
//		To: fanfare.Tag("stock A").Or(fanfare.Tag("stock B")),
//	})
//
// With a [Fill], placeholders such as {{attr.city}} stand for what the receiver's attributes are. With a [Notification] the
// phones of those who do not connect in time show it.
//
// # Sessions
//
// The host calls [Pusher.Connect] when a user's connection is ready and
// [Session.Close] when it is gone. What the user has missed is delivered first, in
// order, and then what comes. A message is done when Deliver returns nil, or, with a
// [transport.ClientAcker], when the host calls [Pusher.Ack] for the client. A host without a transport asks
// [Pusher.Pending] what a user still waits for, and acknowledges that.
//
// # Following a push
//
// Push returns a [Task], which [Pusher.Task] finds again by its ID, and [Pusher.Tasks] lists, until 30 days after its
// end. [Task.Progress] tells how many have the message, wait for it, or have opened it ([Pusher.Opened]), and what became of the notifications;
// [Task.History] the same over time, for a chart; [Task.Standing] where one user stands, if [Options].KeepAudiences says
// that this be kept. [Task.Wait] waits until everyone who was online has been tried. [Hooks] are called as things happen.
//
// [Pusher.Withdraw] takes back what is still pending, and has phones take away what they show; [Pusher.Replace] has
// them show something else in its place.
//
// # Plans
//
// [Pusher.Plan] makes a push later, again and again, bit by bit, or in several forms, as a [Plan] says: at a time, which may be one on the
// clock of each user's wall (Local); repeated by a cron expression (Every, read by package schedule); at so many users a second
// (Pace); as one [Variant] or another, by language or at random. Its audience is that of the moment when it fires. The [Planned] can be changed until it fires,
// paused, cancelled and withdrawn, and has the progress and the history of all its tasks together, by variant too. [Pusher.Times] tells when a
// plan would fire.
//
// # Care for the receiver
//
// A message has a Category, such as "offers". Users opt out of those they do not want ([Pusher.OptOut]), and a [Cap] bounds how many of one a
// user is pushed in a day and a week. In [QuietHours], by the clock of each user's wall, phones are notified of nothing that is
// not urgent. All of this holds for plans, too.
//
// # Care for the files
//
// [Pusher.Backup] writes a copy of everything while the Pusher goes on, [Restore] makes a
// directory of it, [Pusher.Check] verifies every invariant of the files, and
// [Pusher.Compact] gives free space back. [Pusher.Stats] is for monitoring.
//
// # Errors
//
// Errors are sentinels for errors.Is, such as [ErrUnknownUser], and types for errors.As, such as a [*LimitError]
// for what is too large. What is refused changed nothing, but for what an [Pusher.Import] had made durable before. [ErrOutcomeUnknown] leaves it open, and the call may be made again. After its Close
// every call of a Pusher returns [ErrClosed].
//
// # More
//
// Beneath this package are transports ([github.com/fanfare-im/fanfare/transport/apns], [github.com/fanfare-im/fanfare/transport/fcm], [github.com/fanfare-im/fanfare/transport/websocket],
// and transport/centrifuge, a module of its own), what a host's tests use in their place ([github.com/fanfare-im/fanfare/fanfaretest]), expressions of plans that repeat
// ([github.com/fanfare-im/fanfare/schedule]), a page for the people who push ([github.com/fanfare-im/fanfare/console]), the REST API of a cloud service
// ([github.com/fanfare-im/fanfare/rest]), and metrics ([github.com/fanfare-im/fanfare/metrics]). Command fanfare, in cmd/fanfare, answers questions about a directory.
//
// docs/guarantees.md says exactly what is promised, docs/plans.md and docs/phones.md how the two are used, docs/cli.md what the command does,
// docs/architecture.md how it is made, docs/format.md what is in the files.
package fanfare
