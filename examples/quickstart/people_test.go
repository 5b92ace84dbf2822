package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/fanfare-im/fanfare"
)

func readAll(text string) (users []fanfare.User, attributes []string, err error) {
	f, err := readPeople(strings.NewReader(text))
	if err != nil {
		return nil, nil, err
	}
	for u, err := range f.users() {
		if err != nil {
			return users, f.attributes, err
		}
		users = append(users, u)
	}
	return users, f.attributes, nil
}

func TestReadPeople(t *testing.T) {
	t.Parallel()
	alice := fanfare.User{ID: "alice", Tags: []string{"stock A", "stock B"}, Attributes: map[string]string{"tier": "gold", "city": "Shenzhen"}}
	bob := fanfare.User{ID: "bob", Attributes: map[string]string{"city": "Xi’an, old town"}}
	for name, tc := range map[string]struct {
		text       string
		users      []fanfare.User
		attributes []string
	}{
		"as documented": {
			"id,tags,tier,city\nalice,stock A;stock B,gold,Shenzhen\nbob,,,\"Xi’an, old town\"\n",
			[]fanfare.User{alice, bob}, []string{"tier", "city"},
		},
		"columns in another order, Windows line ends, no end of line, a byte order mark": {
			"\ufeffcity,tier,tags,id\r\nShenzhen,gold,stock A;stock B,alice\r\n\"Xi’an, old town\",,,bob",
			[]fanfare.User{alice, bob}, []string{"city", "tier"},
		},
		"blank lines, spaces around tags, empty tags": {
			"id,tags,tier,city\n\nalice, stock A ;; stock B ;,gold,Shenzhen\n\n",
			[]fanfare.User{alice}, []string{"tier", "city"},
		},
		"only IDs": {"id\nalice\nbob\n", []fanfare.User{{ID: "alice"}, {ID: "bob"}}, nil},
		"nobody":   {"id,tags\n", nil, nil},
		"a line end and quotes in a field": {
			"id,note\n\"a\"\"b\",\"one\ntwo\"\n",
			[]fanfare.User{{ID: `a"b`, Attributes: map[string]string{"note": "one\ntwo"}}}, []string{"note"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			users, attributes, err := readAll(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(users, tc.users) || !slices.Equal(attributes, tc.attributes) {
				t.Errorf("users %v, attributes %v, want %v, %v", users, attributes, tc.users, tc.attributes)
			}
		})
	}
}

func TestReadPeopleRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 51)
	for name, tc := range map[string]struct {
		text, want string
		users      int // read before the error
	}{
		"empty file":          {"", "the file is empty", 0},
		"no id":               {"name,tags\nalice,\n", `line 1: no column is named "id"`, 0},
		"column twice":        {"id,city,city\n", `line 1: two columns are named "city"`, 0},
		"column without name": {"id,tags,\n", "line 1: the name of an attribute is empty", 0},
		"long column name":    {"id," + long + "\n", "line 1: the name of an attribute has 51 bytes, the most is 50", 0},
		"eleven attributes":   {"id,tags,a,b,c,d,e,f,g,h,i,j,k\n", "line 1: 11 columns for attributes, the most is 10", 0},
		"empty id":            {"id,tags\nalice,\n,stock A\n", "line 3: the id is empty", 1},
		"long id":             {"id\n" + strings.Repeat("x", 256) + "\n", "line 2: the id has 256 bytes, the most is 255", 0},
		"id not UTF-8":        {"id\nalice\n\xff\xfe\n", "line 3: the id is not valid UTF-8", 1},
		"long tag":            {"id,tags\nalice,a;" + long + "\n", "line 2: a tag has 51 bytes, the most is 50", 0},
		"tag not UTF-8":       {"id,tags\nalice,\xc3\x28\n", "line 2: a tag is not valid UTF-8", 0},
		"too many tags":       {"id,tags\nalice," + strings.Repeat("a;", 101) + "\n", "line 2: more than 100 tags", 0},
		"long value":          {"id,city\nalice,Shenzhen\nbob," + long + "\n", "line 3: the value of city has 51 bytes, the most is 50", 1},
		"too few fields":      {"id,tags,city\nalice,\n", "record on line 2: wrong number of fields", 0},
		"too many fields":     {"id,tags\nalice,,,\n", "record on line 2: wrong number of fields", 0},
		"bare quote":          {"id,tags\nalice,\nb\"ob,\n", "line 3, column 2: bare \"", 1},
		"quote not closed":    {"id,tags\nalice,\n\"bob,\n", "parse error on line 3, column 7", 1},
		"line of a field in a long record": {
			"id,note,city\nalice,\"one\ntwo\",Shenzhen\nbob,\"one\ntwo\"," + long + "\n", "line 5: the value of city", 1,
		},
		"endless line":   {"id\nalice\n" + strings.Repeat("x", 1<<20) + "\n", "the record after line 2: it is longer than 65536 bytes", 1},
		"endless quote":  {"id\nalice\n\"bob\n" + strings.Repeat("carol\n", 1<<16), "the record after line 2: it is longer than 65536 bytes", 1},
		"endless header": {strings.Repeat("x", 1<<20), "the record after line 0: it is longer than 65536 bytes", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			users, _, err := readAll(tc.text)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q in it", err, tc.want)
			}
			if len(users) != tc.users {
				t.Errorf("%d users before the error, want %d", len(users), tc.users)
			}
		})
	}
}

// However the bytes come, many records are not taken for one long one.
func TestReadPeopleManyRecords(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("id,note\n")
	for i := range 5000 {
		fmt.Fprintf(&text, "user-%d,%s\n", i, strings.Repeat("n", i%50))
	}
	text.WriteString(strings.Repeat("i", 200) + ",\n")
	for name, r := range map[string]io.Reader{
		"whole": strings.NewReader(text.String()),
		"bytes": iotest.OneByteReader(strings.NewReader(text.String())),
	} {
		f, err := readPeople(r)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range f.users() {
			if err != nil {
				t.Fatalf("%s, after %d: %v", name, n, err)
			}
			n++
		}
		if n != 5001 || f.source.total != int64(text.Len()) {
			t.Errorf("%s: %d users, %d of %d bytes", name, n, f.source.total, text.Len())
		}
	}
}

func TestReadPeopleBrokenFile(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken disk")
	f, err := readPeople(io.MultiReader(strings.NewReader("id\nalice\n"), iotest.ErrReader(broken)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for u, err := range f.users() {
		got = append(got, fmt.Sprint(u.ID, " ", err))
		if err != nil && !errors.Is(err, broken) {
			t.Errorf("the cause is lost: %v", err)
		}
	}
	if want := []string{"alice <nil>", " the record after line 2: broken disk"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzReadPeople(f *testing.F) {
	f.Add("id,tags,tier,city\nalice,stock A;stock B,gold,Shenzhen\nbob,,platinum,\"Xi’an\"\n")
	f.Add("\ufeffid\r\n\"a\nb\"\r\n")
	f.Add("id,id\n")
	f.Add("tags;id\n\"")
	f.Fuzz(func(t *testing.T, text string) {
		users, attributes, _ := readAll(text)
		if len(attributes) > maxAttributes {
			t.Fatalf("%d attributes", len(attributes))
		}
		for _, u := range users {
			if err := checkText("the id", u.ID, maxID); err != nil {
				t.Fatal(err)
			}
			if len(u.Tags) > maxTags {
				t.Fatalf("%d tags", len(u.Tags))
			}
			for _, s := range slices.Concat(u.Tags, slices.Collect(maps.Keys(u.Attributes)), slices.Collect(maps.Values(u.Attributes))) {
				if err := checkText("a text", s, maxText); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func TestMakePeople(t *testing.T) {
	t.Parallel()
	const n = 100_000
	people, err := makePeople(n, 1)
	if err != nil {
		t.Fatal(err)
	}
	tiers, cities, tags := map[string]int{}, map[string]int{}, map[string]int{}
	ids := map[string]bool{}
	for u, err := range people {
		if err != nil {
			t.Fatal(err)
		}
		ids[u.ID] = true
		tiers[u.Attributes["tier"]]++
		cities[u.Attributes["city"]]++
		for _, tag := range u.Tags {
			tags[tag]++
		}
	}
	if len(ids) != n {
		t.Errorf("%d different IDs", len(ids))
	}
	for tier, percent := range map[string]int{"non-member": 90, "member": 7, "gold": 2, "platinum": 1} {
		if got, want := tiers[tier], n/100*percent; got < want*85/100 || got > want*115/100 {
			t.Errorf("%s: %d users, want about %d", tier, got, want)
		}
	}
	if len(cities) < 290 {
		t.Errorf("%d cities", len(cities))
	}
	// Shanghai has 22.3 of the table's 908.7 million people, Shenzhen 10.4.
	for city, want := range map[string]int{"Shanghai": 2456, "Shenzhen": 1140, "Guangzhou": 1218} {
		if got := cities[city]; got < want*85/100 || got > want*115/100 {
			t.Errorf("%s: %d users, want about %d", city, got, want)
		}
	}
	if a, b := tags["stock A"], tags["stock B"]; a < n/11 || a > n/9 || b < n/13 || b > n/11 {
		t.Errorf("stock A %d, stock B %d", a, b)
	}
	again, err := makePeople(n, 1)
	if err != nil {
		t.Fatal(err)
	}
	other, err := makePeople(n, 2)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := first(people), first(again); !reflect.DeepEqual(a, b) {
		t.Errorf("the same seed makes %v and %v", a, b)
	}
	if a, b := first(people), first(other); reflect.DeepEqual(a, b) {
		t.Errorf("two seeds make %v", a)
	}
}

func first(people func(func(fanfare.User, error) bool)) (out []fanfare.User) {
	for u := range people {
		if out = append(out, u); len(out) == 10 {
			break
		}
	}
	return out
}
