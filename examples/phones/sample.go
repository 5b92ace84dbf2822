package main

import (
	"encoding/csv"
	"errors"
	"fmt"
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

// writeSample makes up users, with tokens that the simulators take: the same in every run. One in ten has no phone, one in five has two.
func (s *services) writeSample(name string, users int) (err error) {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	rows := csv.NewWriter(file)
	write := func(fields ...string) { _ = rows.Write(fields) } // rows.Error has what went wrong
	write(strings.Split(columns, ",")...)
	r := rand.New(rand.NewPCG(1, 0))
	for i := range users {
		user := fmt.Sprintf("user-%07d", i+1)
		tags := [...]string{"", "news", "news", "news vip"}[r.IntN(4)]
		place := samplePlaces[r.IntN(len(samplePlaces))]
		phones := [...]int{0, 1, 1, 1, 1, 1, 1, 1, 2, 2}[r.IntN(10)]
		if phones == 0 {
			write(user, tags, "", "", "", "", "")
		}
		for phone := range phones {
			switch token := 2*i + phone; r.IntN(20) {
			case 0:
				write(user, tags, apns.PlatformSandbox, s.apple.Token(token), sampleTopic, place.locale, place.timezone)
			case 1, 2, 3, 4, 5, 6, 7, 8:
				write(user, tags, apns.Platform, s.apple.Token(token), sampleTopic, place.locale, place.timezone)
			default:
				write(user, tags, fcm.Platform, s.google.Token(token), "", place.locale, place.timezone)
			}
		}
	}
	rows.Flush()
	return rows.Error()
}
