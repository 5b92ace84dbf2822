package main

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/fanfare-im/fanfare"
)

func readAll(text string) (users []fanfare.User, err error) {
	for u, err := range readUsers(strings.NewReader(text)) {
		if err != nil {
			return users, err
		}
		users = append(users, u)
	}
	return users, nil
}

func TestReadUsers(t *testing.T) {
	t.Parallel()
	want := []fanfare.User{
		{ID: "alice", Tags: []string{"vip", "news", "beta"}, Devices: []fanfare.Device{
			{Platform: "apns", Token: "00fc", Topic: "com.example.app", Locale: "de-CH", TimeZone: "Europe/Zurich"},
			{Platform: "fcm", Token: "d1:A"},
		}},
		{ID: "bob, the"},
		{ID: "carol", Devices: []fanfare.Device{{Platform: "apns-sandbox", Token: "1"}}},
	}
	text := columns + "\n" +
		"alice, vip  news,apns,00fc,com.example.app,de-CH,Europe/Zurich\n" +
		"alice,beta,fcm,d1:A,,,\n\n" +
		"\"bob, the\",,,,,,\n" +
		"carol,,apns-sandbox,1,,,"
	for name, text := range map[string]string{
		"as documented":                    text,
		"as a spreadsheet on Windows does": "\ufeff" + strings.ReplaceAll(text, "\n", "\r\n"),
	} {
		if got, err := readAll(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for range readUsers(strings.NewReader(text)) {
		break // is well
	}
}

func TestReadUsersRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 256)
	many := func(n int, format string) (text string) {
		for i := range n {
			text += fmt.Sprintf(format, i)
		}
		return text
	}
	for name, tc := range map[string]struct {
		text, want string // without the header
		users      int    // read before the error
	}{
		"no user":           {"alice,,,,,,\n,,,,,,\n", "line 3: the user ID is empty", 1},
		"long user":         {long + ",,,,,,\n", "line 2: the user ID has 256 bytes, the most is 255", 0},
		"user not UTF-8":    {"\xff,,,,,,\n", "line 2: the user ID is not valid UTF-8", 0},
		"platform":          {"alice,,pigeon,1,,,\n", `line 2: platform "pigeon": known are apns, apns-sandbox and fcm`, 0},
		"no platform":       {"alice,,,1,,,\n", "line 2: a device without a platform", 0},
		"no token":          {"alice,,,,,,\nbob,,fcm,,,,\n", "line 3: the token is empty", 1},
		"long token":        {"alice,,fcm," + strings.Repeat("x", 4097) + ",,,\n", "line 2: the token has 4097 bytes, the most is 4096", 0},
		"long topic":        {"alice,,fcm,1," + long + ",,\n", "line 2: the topic has 256 bytes", 0},
		"long locale":       {"alice,,fcm,1,," + long + ",\n", "line 2: the locale has 256 bytes", 0},
		"time zone":         {"alice,,fcm,1,,,\xc3\x28\n", "line 2: the time zone is not valid UTF-8", 0},
		"long tag":          {"alice,a " + long + ",,,,,\n", "line 2: the tag has 256 bytes, the most is 50", 0},
		"many tags":         {"alice," + strings.Repeat("a ", 60) + ",,,,,\nalice," + strings.Repeat("b ", 60) + ",,,,,\n", "line 3: 120 tags and 0 devices", 0},
		"many devices":      {many(21, "alice,,fcm,%d,,,\n"), "line 22: 0 tags and 21 devices of one user: the most are 100 and 20", 0},
		"few fields":        {"alice,,,,,,\nbob,,,\n", "record on line 3: wrong number of fields", 0},
		"bare quote":        {"al\"ice,,,,,,\n", "parse error on line 2, column 3", 0},
		"line of a quote":   {"\"a\nb\",,,,,,\n\"c\nd\",,pigeon,,,,\n", "line 4: platform", 1},
		"endless line":      {"alice,,,,,,\n" + strings.Repeat("x", 1<<20), "after line 2: a record is longer than 16384 bytes", 0},
		"endless quote":     {"alice,,,,,,\n\"bob,,,,,,\n" + strings.Repeat("carol,,,,,,\n", 1<<16), "after line 2: a record is longer than 16384 bytes", 0},
		"quote without end": {"\"bob,,,,,,\n", "parse error on line 2, column 12", 0},
	} {
		users, err := readAll(columns + "\n" + tc.text)
		if err == nil || !strings.Contains(err.Error(), tc.want) || len(users) != tc.users {
			t.Errorf("%s: after %d users, want %d: error %v, want %q in it", name, len(users), tc.users, err, tc.want)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "no header": "alice,,,,,,\n", "other columns": "user_id,token\nalice,1\n",
	} {
		if _, err := readAll(text); err == nil || !strings.Contains(err.Error(), "line 1: the columns are to be "+columns) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := readAll(strings.Repeat("x", 1<<20)); !errors.Is(err, errLong) {
		t.Errorf("endless header: %v", err)
	}
}

// However the bytes come, a record that is as long as it may be is read, and many are not taken for one.
func TestReadUsersInPieces(t *testing.T) {
	t.Parallel()
	line := "alice," + strings.Repeat(strings.Repeat("t", 50)+" ", 100) + ",fcm," + strings.Repeat("x", 4096) + "," +
		strings.Repeat(strings.Repeat("y", 255)+",", 2) + strings.Repeat("z", 255) + "\n"
	text := columns + "\n"
	for i := range 50 {
		text += fmt.Sprint(i) + line
	}
	n := 0
	for _, err := range readUsers(iotest.HalfReader(strings.NewReader(text))) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 50 {
		t.Errorf("%d users, want 50", n)
	}
	failed := errors.New("disk")
	for _, err := range readUsers(iotest.ErrReader(failed)) {
		if !errors.Is(err, failed) {
			t.Errorf("error %v", err)
		}
	}
}
