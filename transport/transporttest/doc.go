// Package transporttest has what tests of transports and of their users need:
// the conformance suite, [TestOnline] and [TestMobile], that every
// implementation of the interfaces of package transport passes, and fakes that
// record what they are given: [Recorder] for people who are connected, with
// [AckRecorder], [BatchRecorder] and [AckBatchRecorder] for the extra powers,
// and [Phones] for a phone notification service. Package fanfaretest has a Pusher with these for the tests of
// programs that embed one.
//
// The suite looks at a transport from outside. The implementer says how one is
// made and what its clients, or the service behind it, have received:
//
//	func TestConformance(t *testing.T) {
//		transporttest.TestOnline(t, func(t *testing.T) *transporttest.OnlineHarness {
//			hub := newHub()
//			t.Cleanup(hub.Shutdown)
//			return &transporttest.OnlineHarness{
//				Transport: hub,
//				Connect:   func(user string) (transporttest.Client, error) { return dial(hub, user) },
//			}
//		})
//	}
//
// What the suite cannot see from outside it leaves to the race detector and to
// a leak checker: run it with -race, and with goleak in TestMain.
package transporttest
