package fanfare

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/fanfare-im/fanfare"

// goList returns the lines that go list prints for the arguments, sorted.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, stderr.String())
	}
	lines := strings.Fields(string(out))
	slices.Sort(lines)
	return slices.Compact(lines)
}

// within says whether a package is one of the trees, or beneath one.
func within(pkg string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool {
		return pkg == tree || strings.HasPrefix(pkg, tree+"/")
	})
}

// TestDependencies holds what is compiled into every program that imports the
// package to two libraries and what these need themselves.
func TestDependencies(t *testing.T) {
	t.Parallel()
	const notStandard = "{{if not .Standard}}{{.ImportPath}}{{end}}"
	direct := []string{"go.etcd.io/bbolt", "github.com/RoaringBitmap/roaring/v2"}
	theirs := []string{"github.com/bits-and-blooms/bitset", "golang.org/x/sys"}
	for _, pkg := range goList(t, "-deps", "-f", notStandard, ".") {
		if !within(pkg, modulePath) && !within(pkg, direct...) && !within(pkg, theirs...) {
			t.Errorf("the root package reaches %s", pkg)
		}
	}
	for _, own := range []string{".", "./store", "./transport"} {
		for _, pkg := range goList(t, "-f", `{{join .Imports "\n"}}`, own) {
			if strings.Contains(pkg, ".") && !within(pkg, modulePath) && !within(pkg, direct...) {
				t.Errorf("%s imports %s itself", own, pkg)
			}
		}
	}
}

// TestHeavyDependencies: what is heavy is compiled into no program but those that import its package.
func TestHeavyDependencies(t *testing.T) {
	t.Parallel()
	heavy := map[string][]string{ // beside the package that may
		"firebase.google.com":    {"./transport/fcm"},
		"cloud.google.com":       {"./transport/fcm"},
		"google.golang.org/grpc": {"./transport/fcm"},
		"github.com/sideshow":    {"./transport/apns"},
		"github.com/prometheus":  {"./metrics"},
		"github.com/coder":       {"./transport/websocket"},
		"github.com/alecthomas":  {"./cmd/fanfare"},
		"github.com/schollz":     {"./cmd/fanfare"},
		"github.com/rivo":        {"./cmd/fanfare"},
	}
	for _, pkg := range []string{
		"./cmd/fanfare", ".", "./store", "./transport", "./transport/transporttest", "./transport/apns", "./transport/apns/apnstest", "./transport/fcm", "./transport/fcm/fcmtest",
		"./transport/websocket", "./fanfaretest", "./rest", "./schedule", "./console", "./metrics",
	} {
		deps := goList(t, "-deps", pkg)
		for tree, may := range heavy {
			reaches := slices.ContainsFunc(deps, func(dep string) bool { return within(dep, tree) })
			if reaches != slices.Contains(may, pkg) {
				t.Errorf("%s reaches %s: %v", pkg, tree, reaches)
			}
		}
	}
}

// TestImportsPointDownward holds the packages to their order: the root package
// stands on store, transport and the seam for fanfaretest, and these know nothing of it nor of each other.
func TestImportsPointDownward(t *testing.T) {
	t.Parallel()
	allowed := map[string][]string{
		".":                             {"store", "transport", "internal/fault", "internal/peers"},
		"./store":                       {},
		"./transport":                   {},
		"./internal/fault":              {},
		"./internal/peers":              {"store"},
		"./fanfaretest":                 {"", "transport", "transport/transporttest", "internal/fault"},
		"./transport/transporttest":     {"transport"},
		"./transport/internal/payload":  {"transport"},
		"./transport/internal/flow":     {"transport"},
		"./transport/internal/h2server": {},
		"./transport/apns":              {"transport", "transport/internal/flow", "transport/internal/payload"},
		"./transport/apns/apnstest":     {"transport/internal/h2server"},
		"./transport/fcm":               {"transport", "transport/internal/flow", "transport/internal/payload"},
		"./transport/fcm/fcmtest":       {},
		"./transport/websocket":         {"", "transport"},
		"./rest":                        {"", "transport", "rest/usersig"},
		"./schedule":                    {""},
		"./console":                     {"", "transport"},
		"./metrics":                     {""},
		"./rest/usersig":                {},
		"./cmd/fanfare":                 {""},
		"./examples/quickstart":         {"", "transport", "internal/cities"},
		"./examples/phones":             {"", "transport", "transport/apns", "transport/apns/apnstest", "transport/fcm", "transport/fcm/fcmtest"},
	}
	for pkg, may := range allowed {
		for _, imported := range goList(t, "-f", `{{join .Imports "\n"}}`, pkg) {
			rest, ours := strings.CutPrefix(imported, modulePath)
			if ours && !slices.Contains(may, strings.TrimPrefix(rest, "/")) {
				t.Errorf("%s imports %s", pkg, imported)
			}
		}
	}
}
