// Package console is a page for the people who push: it composes a push and says how many people it will disturb before it does, shows how each one is
// going, takes one back, and answers why a message did or did not reach somebody. It is an [http.Handler] over the public API of a
// [fanfare.Pusher], in English and Chinese, with everything that it loads embedded.
//
//	h := console.Handler(p, console.Options{Identify: identify})
//	http.Handle("/console/", http.StripPrefix("/console", h))
//
// Who may see it is the host's to say: [Options].Identify tells who asks and in which [Role], and without it everybody is refused.
// docs/console.md has the screens, the options, and what the page does not do.
package console
