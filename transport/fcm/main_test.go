package fcm

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// Google's libraries count what they do by means of a worker that they never end.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}
