package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// TestMain is also the process of scene 5: the scene runs its own executable,
// which here is the test's.
func TestMain(m *testing.M) {
	if c := crashFromEnvironment(); c != nil {
		fmt.Fprintln(os.Stderr, c.pushAndDie(context.Background(), os.Stdout))
		os.Exit(exitFailed)
	}
	goleak.VerifyTestMain(m)
}

// output is what a run has printed, read line by line from where the last find ended.
type output struct {
	t    *testing.T
	all  string
	rest string
}

func play(t *testing.T, args ...string) *output {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), args, &out); err != nil {
		t.Fatalf("%v, after:\n%s", err, out.String())
	}
	return &output{t: t, all: out.String(), rest: out.String()}
}

// find looks for the next line that matches, where N is a number, and returns the numbers.
func (o *output) find(pattern string) (numbers []int64) {
	o.t.Helper()
	e := regexp.MustCompile(`(?m)` + strings.ReplaceAll(pattern, "N", `(\d[\d,]*)`))
	at := e.FindStringSubmatchIndex(o.rest)
	if at == nil {
		o.t.Fatalf("%q is not in what is left:\n%s\nall:\n%s", pattern, o.rest, o.all)
	}
	for _, digits := range e.FindStringSubmatch(o.rest)[1:] {
		n, err := strconv.ParseInt(strings.ReplaceAll(digits, ",", ""), 10, 64)
		if err != nil {
			o.t.Fatal(err)
		}
		numbers = append(numbers, n)
	}
	o.rest = o.rest[at[1]:]
	return numbers
}

// want compares numbers, two by two.
func (o *output) want(what string, pairs ...int64) {
	o.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] != pairs[i+1] {
			o.t.Fatalf("%s: %d, want %d, in:\n%s", what, pairs[i], pairs[i+1], o.all)
		}
	}
}

func TestScenes(t *testing.T) {
	t.Parallel()
	o := play(t, "-users", "2000", "-seed", "7")
	dir := regexp.MustCompile(`Files are in (\S+) and are removed`).FindStringSubmatch(o.all)
	if dir == nil {
		t.Fatalf("no word of where the files are:\n%s", o.all)
	}
	if _, err := os.Stat(dir[1]); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
	o.find(`importing .* 100%  2,000 users`)

	o.find(`^1\. Christmas`)
	connected := o.find(`N users are connected`)[0]
	if connected < 8 || connected > 40 {
		t.Errorf("%d of 2,000 users are connected, want about 20", connected)
	}
	n := o.find(`delivering .* N of N have it, N wait`)
	o.want("the offer", n[0], connected, n[1], 2000, n[2], 2000-connected)
	back := o.find(`N users come back`)[0]
	n = o.find(`catching up .* N of N have it, N wait`)
	o.want("the offer, after the catch-up", n[0], connected+back, n[1], 2000, n[2], 2000-connected-back)
	n = o.find(`N get a greeting, N get the offer again`)
	o.want("the second time", n[0], back, n[1], 0)

	o.find(`^2\. A livestream`)
	n = o.find(`delivering .* N of N have it, N wait`)
	o.want("the announcement", n[0], connected+back, n[1], 2000, n[2], 2000-connected-back)
	n = o.find(`delivering .* N of N have it, N wait`)
	o.want("the call", n[0], connected+back, n[1], 2000, n[2], 0)
	o.find(`comes an hour late and gets "Merry Christmas.*", then "Livestream on Saturday.*"; the call: no\.`)

	o.find(`^3\. Tags`)
	followers := o.find(`tag:"stock A" or tag:"stock B": N users`)[0]
	if followers < 260 || followers > 440 {
		t.Errorf("%d followers, want about 350", followers)
	}
	o.find(`follows stock A`)
	o.want("one follows", o.find(`: N users, counted`)[0], followers+1)
	o.find(`follows neither`)
	o.want("one does not any more", o.find(`: N users, counted`)[0], followers)
	o.find(`connects; the plan: yes`)
	o.find(`connects; the plan: no`)

	o.find(`^4\. Attributes`)
	guests := o.find(`attr\.tier = "platinum" and attr\.city = "Shenzhen": N users`)[0]
	o.find(`platinum members from today`)
	o.want("three more", o.find(`: N users, counted`)[0], guests+3)
	o.want("the first message", o.find(`delivering .* of N have it`)[0], guests+3)
	o.find(`moves to Guangzhou: one call`)
	o.want("one fewer", o.find(`: N users, counted`)[0], guests+2)
	o.want("the second message", o.find(`delivering .* of N have it`)[0], guests+2)
	o.find(`before the move: yes; the second: no`)

	o.find(`^5\. A process is killed`)
	doomed := o.find(`N users are connected to it`)[0]
	n = o.find(`delivering .* N of N have it`)
	o.want("the audience", n[1], doomed)
	if n[0]*3 < doomed {
		t.Errorf("%d of %d had the message before the kill, want a third", n[0], doomed)
	}
	o.find(`The process is dead`)
	before := o.find(`N users had the message by then`)[0]
	if before < n[0] || before > doomed {
		t.Errorf("%d of %d users had the message when the process died; it knew of %d", before, doomed, n[0])
	}
	o.find(`which changes nothing: yes`)
	n = o.find(`the push goes on .* 100%  N of N have it, N wait`)
	o.want("the push that goes on", n[0], doomed, n[1], doomed, n[2], 0)
	n = o.find(`Of N users N got it once, N twice, N more often, N never`)
	o.want("the tally", n[0], doomed, n[1]+n[2], doomed, n[3], 0, n[4], 0)
	if n[2] > before {
		t.Errorf("%d users got it twice, and only %d had it before", n[2], before)
	}

	o.find(`agrees with the others`)
	o.want("users at the end", o.find(`N users, 9 pushes`)[0], 2000)
}

func TestScenesFromFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var text strings.Builder
	text.WriteString("id,tags,city,language\n")
	for i := range 300 {
		fmt.Fprintf(&text, "user %d,%s,%s,zh\n", i, []string{"stock A", "stock B;vip", ""}[i%3], []string{"Shenzhen", ""}[i%2])
	}
	users := filepath.Join(dir, "users.csv")
	if err := os.WriteFile(users, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(dir, "store")
	o := play(t, "-csv", users, "-dir", store)
	o.find(`importing .* 100%  300 users`)
	o.want("followers", o.find(`or tag:"stock B": N users`)[0], 200)
	o.want("guests", o.find(`attr\.city = "Shenzhen": N users`)[0], 0)
	o.want("guests, later", o.find(`attr\.city = "Shenzhen": N users`)[0], 3)
	o.find(`agrees with the others`)
	if files, err := os.ReadDir(store); err != nil || len(files) == 0 {
		t.Errorf("-dir keeps its files: %v, %v", files, err)
	}

	var again bytes.Buffer
	if err := run(t.Context(), []string{"-csv", users, "-dir", store}, &again); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("on a directory that is not empty: %v", err)
	}
}

// Few users, other attributes: scenes that make no sense say so, or play with whom there is.
func TestScenesWithFew(t *testing.T) {
	t.Parallel()
	users := filepath.Join(t.TempDir(), "users.csv")
	if err := os.WriteFile(users, []byte("id,a,b,c,d,e,f,g,h,i,j\nalice,1,2,3,4,5,6,7,8,9,10\nbob,,,,,,,,,,\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := play(t, "-csv", users)
	o.find(`2 of 2 have it, 0 wait`)
	o.find(`Left out: the users have no attributes named tier and city`)
	o.find(`Of 2 users N got it once, N twice, 0 more often, 0 never`)
	play(t, "-users", "1").find(`Of 1 users`)
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	bad := filepath.Join(t.TempDir(), "bad.csv")
	if err := os.WriteFile(bad, []byte("id,tags\nalice,\n,\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := filepath.Join(t.TempDir(), "nobody.csv")
	if err := os.WriteFile(nobody, []byte("id,tags\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		want string
		args []string
	}{
		{"-users 0", []string{"-users", "0"}},
		{"is not a flag", []string{"users.csv"}},
		{"missing.csv", []string{"-csv", filepath.Join(t.TempDir(), "missing.csv")}},
		{"line 3: the id is empty", []string{"-csv", bad}},
		{"nobody was imported", []string{"-csv", nobody}},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), tc.args, &out); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: error %v, want %q in it", tc.args, err, tc.want)
		}
	}
}
