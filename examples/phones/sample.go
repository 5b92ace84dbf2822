package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"

	"github.com/fanfare-im/fanfare/transport/apns"
	"github.com/fanfare-im/fanfare/transport/fcm"
)

const sampleTopic = "com.example.app"

// samplePlaces are where users live, and what their phones speak.
var samplePlaces = []struct{ locale, timezone string }{
	{"en-GB", "Europe/London"}, {"en-US", "America/New_York"}, {"de-DE", "Europe/Berlin"}, {"de-CH", "Europe/Zurich"},
	{"zh-CN", "Asia/Shanghai"}, {"zh-Hant-TW", "Asia/Taipei"}, {"fr-FR", "Europe/Paris"},
}

// writeSampleFile makes up users with tokens that the simulators take.
func (s *services) writeSampleFile(name string, users int) (err error) {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := bufio.NewWriter(file)
	return errors.Join(writeSample(w, users, s.sim.token), w.Flush())
}

// token is the i-th token of a platform.
func (sim *simulators) token(platform string, i int) string {
	if platform == fcm.Platform {
		return sim.google.Token(i)
	}
	return sim.apple.Token(i)
}

// writeSample makes up users, the same in every run: one in ten has no phone, one in six has two.
func writeSample(w io.Writer, users int, token func(platform string, i int) string) error {
	r := rand.New(rand.NewPCG(1, 0))
	rows := csv.NewWriter(w)
	_ = rows.Write(strings.Split(columns, ",")) // rows.Error has what went wrong
	devices := 0
	for i := range users {
		user := fmt.Sprintf("user-%07d", i+1)
		var tags []string
		for _, tag := range []struct {
			name string
			one  int // of so many has it
		}{{"news", 2}, {"vip", 50}} {
			if r.IntN(tag.one) == 0 {
				tags = append(tags, tag.name)
			}
		}
		place := samplePlaces[r.IntN(len(samplePlaces))]
		phones := 1
		switch n := r.IntN(30); {
		case n < 3:
			phones = 0
			_ = rows.Write([]string{user, strings.Join(tags, " "), "", "", "", "", ""})
		case n < 8:
			phones = 2
		}
		for range phones {
			platform, topic := fcm.Platform, ""
			switch n := r.IntN(20); {
			case n < 1:
				platform, topic = apns.PlatformSandbox, sampleTopic
			case n < 9:
				platform, topic = apns.Platform, sampleTopic
			}
			devices++
			_ = rows.Write([]string{user, strings.Join(tags, " "), platform, token(platform, devices), topic, place.locale, place.timezone})
		}
	}
	rows.Flush()
	return rows.Error()
}
