package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport/apns"
	"github.com/fanfare-im/fanfare/transport/apns/apnstest"
	"github.com/fanfare-im/fanfare/transport/fcm"
	"github.com/fanfare-im/fanfare/transport/fcm/fcmtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sample writes a file of made-up users and reads it.
func sample(t *testing.T, users int) (name string, list []fanfare.User) {
	t.Helper()
	var s services
	var err error
	if s.apple, err = apnstest.NewServer(apnstest.Options{}); err != nil {
		t.Fatal(err)
	}
	if s.google, err = fcmtest.NewServer(fcmtest.Options{}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	}()
	name = filepath.Join(t.TempDir(), "users.csv")
	if err := s.writeSample(name, users); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for u, err := range readUsers(file) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, u)
	}
	return name, list
}

// numbers are those of the line that matches, where # stands for one.
func numbers(t *testing.T, out, pattern string) (list []int) {
	t.Helper()
	found := regexp.MustCompile(`(?m)^ *` + strings.ReplaceAll(pattern, "#", `([\d,]+)`)).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("%q is not in:\n%s", pattern, out)
	}
	for _, s := range found[1:] {
		n, err := strconv.Atoi(strings.ReplaceAll(s, ",", ""))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, n)
	}
	return list
}

// TestOutcome: with luck that is known, every number is.
func TestOutcome(t *testing.T) {
	t.Parallel()
	name, users := sample(t, 2000)
	for _, tc := range []struct {
		title, to string
		in        func(*fanfare.User) bool
		args      []string // beside -to
	}{
		{"made up", "all", func(*fanfare.User) bool { return true }, []string{"-users", "2000"}},
		{"from a file", "tag:news and not tag:vip", func(u *fanfare.User) bool {
			return slices.Contains(u.Tags, "news") && !slices.Contains(u.Tags, "vip")
		}, []string{"-csv", name}},
	} {
		t.Run(tc.title, func(t *testing.T) {
			t.Parallel()
			var out, log bytes.Buffer
			if err := run(t.Context(), append(tc.args, "-to", tc.to, "-dead", "3", "-busy", "2"), &out, &log); err != nil {
				t.Fatalf("%v, after:\n%s", err, out.String())
			}
			if log.Len() > 0 {
				t.Errorf("logged: %s", log.String())
			}
			l := newLuck(3, 2)
			notified := 0
			met := map[string]map[fate]int{apns.Platform: {}, apns.PlatformSandbox: {}, fcm.Platform: {}}
			before, after := map[string]int{}, map[string]int{} // users with a device
			for i := range users {
				in := tc.in(&users[i])
				if in {
					notified++
				}
				has, keeps := map[string]bool{}, map[string]bool{}
				for _, d := range users[i].Devices {
					f := l.fate(d.Token)
					if in {
						met[d.Platform][f]++
					}
					has[d.Platform] = true
					keeps[d.Platform] = keeps[d.Platform] || !in || f != dead
				}
				for platform := range has {
					before[platform]++
					if keeps[platform] {
						after[platform]++
					}
				}
			}
			if n := numbers(t, out.String(), `A push to .*, of # users, is accepted\.`); n[0] != notified {
				t.Errorf("to %d users, want %d", n[0], notified)
			}
			for platform, m := range met {
				later := m[busy] + m[down]
				accepted := m[fine] + later
				want := []int{accepted + m[dead] + m[stranger] + later, accepted, m[dead], m[stranger], later, 0}
				if got := numbers(t, out.String(), platform+" +# +# +# +# +# +#$"); !slices.Equal(got, want) {
					t.Errorf("%s: %v, want %v", platform, got, want)
				}
				reason := "DeviceTokenNotForTopic"
				if platform == fcm.Platform {
					reason = "SENDER_ID_MISMATCH"
				}
				if m[stranger] > 0 {
					if n := numbers(t, out.String(), "# rejected by "+platform+": "+reason); n[0] != m[stranger] {
						t.Errorf("%s: %d rejected for %s, want %d", platform, n[0], reason, m[stranger])
					}
				}
				if got, want := numbers(t, out.String(), platform+" +# → #$"), []int{before[platform], after[platform]}; !slices.Equal(got, want) {
					t.Errorf("%s: users with a device %v, want %v", platform, got, want)
				}
			}
			numbers(t, out.String(), `# a second: # sent in`)
			for _, shown := range []string{`en-\S+ +Winter sale: `, `de-\S+ +Winterschlussverkauf: `, `zh-CN +冬季特卖: `, `zh-Hant-TW +冬季特賣: `} {
				numbers(t, out.String(), `[a-z-]+ +`+shown)
			}
		})
	}
}

// TestWrongKey: who sends is denied, and told what to look at; tokens stay.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	var out, log bytes.Buffer
	err := run(t.Context(), []string{"-users", "200", "-wrong-key", "-dir", dir}, &out, &log)
	for _, want := range []string{"apns denies its sender: InvalidProviderToken", "check -apns-key", "fcm denies its sender: invalid_grant", "check -fcm-service-account"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
	}
	numbers(t, out.String(), `apns +0 +0 +0 +0 +0 +0$`)
	if again := run(t.Context(), []string{"-users", "200", "-dir", dir}, &out, &log); again == nil || !strings.Contains(again.Error(), "is not empty") {
		t.Errorf("on a directory that is not empty: %v", again)
	}
}

// watch cancels when something is printed.
type watch struct {
	bytes.Buffer
	on     string
	cancel func()
}

func (w *watch) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.on) {
		w.cancel()
	}
	return w.Buffer.Write(p)
}

// TestInterrupt: it ends at once, wherever it is, and leaves nothing behind.
func TestInterrupt(t *testing.T) {
	for _, at := range []string{"made-up users", "is accepted", " sent: "} {
		t.Run(at, func(t *testing.T) {
			temp := t.TempDir()
			t.Setenv("TMPDIR", temp)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			began := time.Now()
			out := &watch{on: at, cancel: cancel}
			if err := run(ctx, []string{"-users", "2000", "-busy", "40"}, out, new(bytes.Buffer)); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, after:\n%s", err, out.String())
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("took %v", took)
			}
			if files, err := os.ReadDir(temp); err != nil || len(files) > 0 {
				t.Errorf("left behind: %v, %v", files, err)
			}
		})
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	users := file("users.csv", columns+"\nalice,,,,,,\n")
	nobody := file("nobody.csv", columns+"\n")
	bad := file("bad.csv", columns+"\nalice,,,,,,\nbob,,pigeon,1,,,\n")
	key := file("key.p8", "hidden")
	long := file("long", strings.Repeat("hidden", 20_000))
	for _, tc := range []struct {
		want string
		args []string
	}{
		{"-users 0", []string{"-users", "0"}},
		{"is not a flag", []string{"users.csv"}},
		{"usage", []string{"-no-such-flag"}},
		{"usage", []string{"-to", "tag:"}},
		{"usage", []string{"-help"}},
		{"-dead 90", []string{"-dead", "90", "-busy", "10"}},
		{"-dead NaN", []string{"-dead", "NaN"}},
		{"missing.csv", []string{"-csv", filepath.Join(dir, "missing.csv")}},
		{`bad.csv: fanfare: import: user 1, "bob": line 3: platform "pigeon"`, []string{"-csv", bad}},
		{"there is nobody in it", []string{"-csv", nobody}},
		{"made-up tokens", []string{"-fcm-service-account", key}},
		{"-wrong-key is for", []string{"-csv", users, "-fcm-service-account", key, "-wrong-key"}},
		{"-apns-key is missing", []string{"-apns-key-id", "ABC1234567"}},
		{"not the contents of a .p8 file", []string{"-csv", users, "-apns-key", key}},
		{"65536 bytes are the most", []string{"-csv", users, "-apns-key", long}},
		{"is not JSON", []string{"-csv", users, "-fcm-service-account", key}},
		{"missing.json", []string{"-csv", users, "-fcm-service-account", filepath.Join(dir, "missing.json")}},
	} {
		var out, log bytes.Buffer
		err := run(t.Context(), tc.args, &out, &log)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: error %v, want %q in it", tc.args, err, tc.want)
		}
		if all := fmt.Sprint(err, out.String(), log.String()); strings.Contains(all, "hidden") {
			t.Errorf("%v: a secret is shown: %s", tc.args, all)
		}
	}
}
