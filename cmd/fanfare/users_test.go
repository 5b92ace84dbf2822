package main

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
)

// usersOf reads everything that is known of the users of a directory, but for when they and their devices were registered.
func usersOf(t *testing.T, dir string) (users map[string]fanfare.User, names map[int]string, types map[int]fanfare.AttributeType) {
	t.Helper()
	ctx := t.Context()
	p, err := fanfare.Open(dir, fanfare.Options{ReadOnly: true})
	must(t, err)
	users = make(map[string]fanfare.User)
	for id, err := range p.Members(ctx, fanfare.All()) {
		must(t, err)
		u, err := p.User(ctx, id)
		must(t, err)
		u.Registered = time.Time{}
		for i := range u.Devices {
			u.Devices[i].Registered = time.Time{}
		}
		users[id] = u
	}
	names, err = p.AttributeNames(ctx)
	must(t, err)
	types, err = p.AttributeTypes(ctx)
	must(t, err)
	must(t, p.Close(ctx))
	return users, names, types
}

func sameUsers(t *testing.T, got, want string) {
	t.Helper()
	g, gNames, gTypes := usersOf(t, got)
	w, wNames, wTypes := usersOf(t, want)
	if !reflect.DeepEqual(g, w) {
		t.Errorf("%+v\nnot\n%+v", g, w)
	}
	if !maps.Equal(gNames, wNames) || !maps.Equal(gTypes, wTypes) {
		t.Errorf("attributes %v %v, not %v %v", gNames, gTypes, wNames, wTypes)
	}
}

// TestRoundTrip exports, imports into a directory that is not there, again into the same, and exports that.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	dir, to := t.TempDir(), filepath.Join(t.TempDir(), "new", "data")
	town(t, dir)
	lines := wantOut(t, "export", dir)
	for i, want := range []string{": 5 users, 5 new, 0 known before\n", ": 5 users, 0 new, 5 known before\n"} {
		o := fanfareCommand(t, lines, "import", to)
		if o.code != 0 || !strings.HasSuffix(o.out, want) || o.err != "" {
			t.Fatalf("import %d: %+v", i, o)
		}
		sameUsers(t, to, dir)
	}
	wantOut(t, "check", to)
	file := filepath.Join(t.TempDir(), "users.jsonl")
	if out := wantOut(t, "export", to, "-o", file, "--json"); out != fmt.Sprintf("{\"file\":%q,\"users\":5}\n", file) {
		t.Error(out)
	}
	again := filepath.Join(t.TempDir(), "again")
	if out := wantOut(t, "import", again, file, "--json"); out != "{\"users\":5,\"registered\":5,\"updated\":0}\n" {
		t.Error(out)
	}
	sameUsers(t, again, dir)
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 1 {
		t.Errorf("beside the file: %v, %v", left, err)
	}
	some := wantOut(t, "export", dir, "--to", "tag:vip")
	if n := strings.Count(some, "\n"); n != 3 || !strings.Contains(some, `"id":"carol"`) {
		t.Errorf("%s", some)
	}
}

// TestRoundTripLimits: what only a host with other limits takes goes the same way, and the limits stay.
func TestRoundTripLimits(t *testing.T) {
	t.Parallel()
	ctx, dir, to := t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "new")
	limits := fanfare.Limits{TagsPerUser: 150, DevicesPerUser: 30, TagBytes: 200, NameBytes: 100, ValueBytes: 300, Attributes: 20}
	p, err := fanfare.Open(dir, fanfare.Options{Limits: limits})
	must(t, err)
	name := strings.Repeat("n", 100)
	must(t, p.SetAttributeNames(ctx, map[int]string{19: name}))
	u := fanfare.User{ID: "a", Attributes: map[string]string{name: strings.Repeat("v", 300)}}
	for i := range 150 {
		u.Tags = append(u.Tags, fmt.Sprintf("%0200d", i))
	}
	for i := range 30 {
		u.Devices = append(u.Devices, fanfare.Device{Platform: "fcm", Token: fmt.Sprint(i)})
	}
	_, err = p.Import(ctx, func(yield func(fanfare.User, error) bool) { yield(u, nil) }, nil)
	must(t, err)
	must(t, p.Close(ctx))
	for range 2 {
		if o := fanfareCommand(t, wantOut(t, "export", dir), "import", to); o.code != 0 {
			t.Fatalf("%+v", o)
		}
		sameUsers(t, to, dir)
	}
	p, err = fanfare.Open(to, fanfare.Options{ReadOnly: true})
	must(t, err)
	s, err := p.Stats(ctx)
	must(t, err)
	if s.Limits.TagsPerUser != 150 || s.Limits.DevicesPerUser != 30 {
		t.Errorf("%+v", s.Limits)
	}
	must(t, p.Close(ctx))
	if n := wantOut(t, "count", to, `tag:"`+u.Tags[3]+`"`); n != "1\n" {
		t.Error(n)
	}
}

// TestImport: what is wrong names its line, what is before it stays, and names are given by flags.
func TestImport(t *testing.T) {
	t.Parallel()
	const header = `{"fanfare":"users","version":1,"attributes":[{"slot":0,"name":"city","type":"text"},{"slot":2,"name":"spend","type":"number(2)"}]}` + "\n"
	for name, c := range map[string]struct {
		input string
		args  []string
		code  int
		why   string // or what is said when it works
		have  string // users who are there all the same
	}{
		"nothing":       {why: "0 users, 0 new"},
		"only a header": {input: header, why: "0 users, 0 new"},
		"no header":     {input: `{"id":"a","tags":["x"]}` + "\n" + `{"id":"b"}`, why: "2 users, 2 new"},
		"empty at the end": {
			input: header + `{"id":"a","attributes":{"city":"Shenzhen","spend":"3.50"}}` + "\n\n \n", why: "1 user, 1 new",
		},
		"twice": {input: `{"id":"a","tags":["x"]}` + "\n" + `{"id":"a","tags":["y"]}`, why: "2 users, 1 new, 1 known before"},
		"flags": {
			input: `{"id":"a","attributes":{"a:b":"x","spend":"1","on":"2026-01-02"}}`, args: []string{"--attribute", "1=a:b", "--attribute", "7=spend:number(0)", "--attribute=8=on:date"},
			why: "1 user, 1 new",
		},
		"flag and header": {input: header + `{"id":"a","attributes":{"city":"x","age":"7"}}`, args: []string{"--attribute", "1=age"}, why: "1 user, 1 new"},
		"empty between":   {input: `{"id":"a"}` + "\n\n" + `{"id":"b"}`, code: exitFailed, why: "line 2: empty", have: "1"},
		"no JSON":         {input: header + `{"id":"a"}` + "\n" + `{"id":`, code: exitFailed, why: "line 3: unexpected EOF", have: "1"},
		"unknown field":   {input: `{"id":"a","tag":["x"]}`, code: exitFailed, why: `line 1: json: unknown field "tag"`},
		"two objects":     {input: `{"id":"a"} {"id":"b"}`, code: exitFailed, why: "line 1: more than one object"},
		"no ID":           {input: header + `{"tags":["x"]}`, code: exitFailed, why: "line 2: user ID in bytes, at least: limit 1, got 0"},
		"not UTF-8":       {input: "{\"id\":\"a\"}\n{\"id\":\"\xff\"}", code: exitFailed, why: "line 2: not valid UTF-8"},
		"long tag": {
			input: header + `{"id":"a"}` + "\n" + `{"id":"b","tags":["` + strings.Repeat("x", 1025) + `"]}`, code: exitFailed, why: `line 3: user "b": tag in bytes: limit 1024, got 1025`,
		},
		"unnamed attribute": {input: `{"id":"a"}` + "\n" + `{"id":"b","attributes":{"city":"x"}}`, code: exitFailed, why: `line 2: user "b": no attribute has this name`},
		"wrong value":       {input: header + `{"id":"a","attributes":{"spend":"much"}}`, code: exitFailed, why: `line 2: user "a":`},
		"header again":      {input: header + header, code: exitFailed, why: "line 2: json: unknown field"},
		"unknown type":      {input: strings.Replace(header, "number(2)", "number(10)", 1), code: exitFailed, why: `type "number(10)" of an attribute`},
		"other lines":       {input: `{"fanfare":"tasks","version":1}`, code: exitFailed, why: "line 1: not a header of users"},
		"newer lines":       {input: `{"fanfare":"users","version":2,"shape":"new"}`, code: exitNewer, why: "version 2 of the lines"},
		"slot twice":        {input: header, args: []string{"--attribute", "0=town"}, code: exitFailed, why: `attribute "town" is to have slot 0, which is that of "city"`},
		"another type":      {input: header, args: []string{"--attribute", "0=city:date"}, code: exitFailed, why: `attribute "city" is text in the directory, not date`},
		"no slot":           {args: []string{"--attribute", "city"}, code: exitUsage, why: `--attribute "city" is not like`},
		"slot too high":     {args: []string{"--attribute", "64=city"}, code: exitFailed, why: "attribute slot, from 0: limit 63, got 64"},
		"too long":          {input: `{"id":"a"}` + "\n" + `{"id":"` + strings.Repeat("x", maxLine) + `"}`, code: exitFailed, why: "line 2: longer than 4 MiB", have: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			o := fanfareCommand(t, c.input, append([]string{"import", dir}, c.args...)...)
			said := o.out
			if c.code != 0 {
				said = o.err
			}
			if o.code != c.code || !strings.Contains(said, c.why) || (c.code == 0) != (o.err == "") {
				t.Errorf("%+v", o)
			}
			if c.have != "" && (wantOut(t, "count", dir) != c.have+"\n" || !strings.HasPrefix(o.out, dir+": "+c.have+" user")) {
				t.Errorf("%+v", o)
			}
			if isThere(dir) {
				wantOut(t, "check", dir)
			}
		})
	}
}

// TestImportInto: names that are there stand for their own slots, and other types are refused.
func TestImportInto(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	p, err := fanfare.Open(dir, fanfare.Options{})
	must(t, err)
	must(t, p.SetAttributeNames(ctx, map[int]string{5: "city", 6: "spend"}))
	must(t, p.Close(ctx))
	in := func(header string) outcome {
		return fanfareCommand(t, `{"fanfare":"users","version":1,"attributes":[`+header+`]}`+"\n"+`{"id":"a","attributes":{"city":"Shenzhen"}}`, "import", dir)
	}
	if o := in(`{"slot":0,"name":"city"},{"slot":1,"name":"age","type":"number(0)"}`); o.code != 0 {
		t.Fatalf("%+v", o)
	}
	if o := in(`{"slot":0,"name":"city"},{"slot":1,"name":"spend","type":"number(0)"}`); o.code != exitFailed || !strings.Contains(o.err, `"spend" is text in the directory, not number(0)`) {
		t.Errorf("%+v", o)
	}
	if o := in(`{"slot":0,"name":"city"},{"slot":5,"name":"town"}`); o.code != exitFailed || !strings.Contains(o.err, "name another with --attribute SLOT=town") {
		t.Errorf("%+v", o)
	}
	_, names, types := usersOf(t, dir)
	if !maps.Equal(names, map[int]string{5: "city", 6: "spend", 1: "age"}) || !maps.Equal(types, map[int]fanfare.AttributeType{1: fanfare.Number(0)}) {
		t.Errorf("%v %v", names, types)
	}
	if n := wantOut(t, "count", dir, `attr.city = "Shenzhen"`); n != "1\n" {
		t.Error(n)
	}
}

// TestImportReplace: without the flag what a line does not have stays, with it tags and attributes are gone.
func TestImportReplace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	town(t, dir)
	const line = `{"id":"alice","tags":["vip"],"attributes":{"city":"Wuhan"}}`
	for _, flags := range [][]string{nil, {"--replace"}} {
		to := t.TempDir()
		town(t, to)
		if o := fanfareCommand(t, line, append([]string{"import", to}, flags...)...); o.code != 0 {
			t.Fatalf("%+v", o)
		}
		was, _, _ := usersOf(t, dir)
		is, _, _ := usersOf(t, to)
		want := was["alice"]
		want.Attributes = maps.Clone(want.Attributes)
		want.Attributes["city"] = "Wuhan"
		if flags != nil {
			want.Tags, want.Attributes = []string{"vip"}, map[string]string{"city": "Wuhan"}
		}
		if was["alice"] = want; !reflect.DeepEqual(is, was) {
			t.Errorf("%v: %+v\nnot\n%+v", flags, is, was)
		}
	}
}

// FuzzLine: whatever a line is, it is refused or is a user who is written as a line that is read as the same user.
func FuzzLine(f *testing.F) {
	f.Fuzz(func(t *testing.T, line []byte) {
		if h, is, err := parseHeader(line); !is && err != nil || is && err == nil && (h.Fanfare != "users" || h.Version != linesVersion) {
			t.Errorf("%+v, %v, %v", h, is, err)
		}
		u, err := parseUser(line)
		if err != nil {
			return
		}
		var b bytes.Buffer
		c := call{out: bufio.NewWriter(&b)}
		must(t, c.object(lineOf(&u)))
		must(t, c.out.Flush())
		written := b.Bytes()
		if n := bytes.Count(written, []byte("\n")); n != 1 {
			t.Fatalf("%d lines: %q", n, written)
		}
		again, err := parseUser(written)
		if err != nil || !sameUser(&u, &again) {
			t.Fatalf("%+v, then %+v, %v", u, again, err)
		}
	})
}

// sameUser compares without telling none from empty.
func sameUser(a, b *fanfare.User) bool {
	return fmt.Sprint(*a) == fmt.Sprint(*b)
}
