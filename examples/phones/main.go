// Phones sends one notification, in four languages, to the phones of many users through Apple's and Google's services,
// and shows what becomes of it: dead tokens, tokens of another app, services that ask for patience, connections that end.
//
//	go run ./examples/phones                                        20,000 made-up users, simulated services
//	go run ./examples/phones -users 200000 -to 'tag:news'
//	go run ./examples/phones -csv users.csv                         your users, simulated services
//	go run ./examples/phones -wrong-key                             what a wrong key looks like
//
// Without credentials nothing leaves this machine. With them, and a -csv file, the notification is real:
//
//	go run ./examples/phones -csv users.csv -apns-key AuthKey.p8 -apns-key-id ABC1234567 -apns-team-id DEF1234567 -apns-topic com.example.app
//	go run ./examples/phones -csv users.csv -fcm-service-account account.json
//
// Read main.go first: run is all that an application does. csv.go has the users, services.go the senders and the simulators of the
// services, luck.go what these have to say of a token, outcome.go what came of it all, sample.go users who are made up.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/transport"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second interrupt does not wait for what the first one ends
	switch err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); {
	case errors.Is(err, errUsage):
		os.Exit(2)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "phones: interrupted")
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "phones:", err)
		os.Exit(1)
	}
}

// english prints numbers with their thousands apart: 200,000.
var english = message.NewPrinter(language.English)

// notification is what phones show: in the language that is nearest to the device's locale, else in English.
func notification() *fanfare.Notification {
	return &fanfare.Notification{
		Title: "Winter sale",
		Body:  "Everything at half price until Friday.",
		Locales: map[string]transport.Text{
			"de":      {Title: "Winterschlussverkauf", Body: "Alles zum halben Preis, nur bis Freitag."},
			"zh":      {Title: "冬季特卖", Body: "全场五折，周五截止。"},
			"zh-Hant": {Title: "冬季特賣", Body: "全場五折，週五截止。"},
		},
		Sound: "default",
		Link:  "https://example.com/sale",
		Data:  map[string]string{"campaign": "winter"},
	}
}

func run(ctx context.Context, args []string, out, log io.Writer) (err error) {
	o, err := parse(args, log)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "fanfare-phones-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()

	var s services
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := s.start(ctx, o); err != nil {
		return err
	}
	if !o.real() {
		fmt.Fprintln(out, "The services are simulated, on this machine.")
	}
	if o.csv == "" {
		o.csv = filepath.Join(scratch, "users.csv")
		if err := s.writeSample(o.csv, o.users); err != nil {
			return err
		}
		english.Fprintf(out, "%d made-up users are in %s, which is removed at the end.\n", o.users, o.csv)
	}
	p, err := fanfare.Open(cmp.Or(o.dir, filepath.Join(scratch, "store")), fanfare.Options{
		Mobile: s.senders, // and no Online transport: nobody is connected, so all phones are notified,
		Grace:  -1,        // and at once
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, shut(p)) }()

	if err := importFile(ctx, p, o.csv); err != nil {
		return err
	}
	before, err := s.owners(ctx, p)
	if err != nil {
		return err
	}
	began := time.Now()
	task, err := p.Push(ctx, fanfare.Message{
		From:         "shop",
		Body:         []byte(`{"kind": "sale", "until": "Friday"}`), // for the app, when it connects within the hour
		To:           o.to,
		Lifetime:     time.Hour,
		Notification: notification(),
	})
	if err != nil {
		return err
	}
	progress, course, err := follow(ctx, out, task, began)
	if err != nil {
		return err
	}
	report(out, &progress, course)
	if err := denied(&progress); err != nil {
		return err
	}
	after, err := s.owners(ctx, p)
	if err != nil {
		return err
	}
	reportOwners(out, before, after)
	return s.reportShown(ctx, out, p, o.to)
}

// shut closes the Pusher, and with it the senders, also after an interrupt.
func shut(p *fanfare.Pusher) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return p.Close(ctx)
}

// errUsage is of flags that package flag has complained about already.
var errUsage = errors.New("usage")

type options struct {
	users int
	csv   string
	dir   string
	to    fanfare.Audience

	dead, busy float64 // percent
	wrongKey   bool

	apnsKey, apnsKeyID, apnsTeamID, apnsTopic string
	apnsSandbox                               bool
	fcmAccount                                string
}

// real says whether the services are Apple's and Google's own.
func (o *options) real() bool { return o.apnsKey != "" || o.fcmAccount != "" }

func parse(args []string, log io.Writer) (*options, error) {
	var o options
	flags := flag.NewFlagSet("phones", flag.ContinueOnError)
	flags.SetOutput(log)
	flags.IntVar(&o.users, "users", 20_000, "how many `users` to make up; the simulators keep some KB for each of their phones")
	flags.StringVar(&o.csv, "csv", "", "read the users from this `file` instead, with the columns "+columns)
	flags.StringVar(&o.dir, "dir", "", "a new or empty `directory` for fanfare's files, which are kept (default: a temporary one)")
	flags.TextVar(&o.to, "to", fanfare.All(), "the `audience`, such as: tag:news and not tag:vip; all phones of these users are notified")
	flags.Float64Var(&o.dead, "dead", 2, "simulated: `percent` of tokens that are dead")
	flags.Float64Var(&o.busy, "busy", 1, "simulated: `percent` of tokens that get a 429 once; half as many get a 503 once")
	flags.BoolVar(&o.wrongKey, "wrong-key", false, "simulated: services that do not know the sender")
	flags.StringVar(&o.apnsKey, "apns-key", "", "the .p8 `file` of an APNs key; needs -csv, -apns-key-id and -apns-team-id")
	flags.StringVar(&o.apnsKeyID, "apns-key-id", "", "the key's `ID`, ten characters")
	flags.StringVar(&o.apnsTeamID, "apns-team-id", "", "the developer team's `ID`, ten characters")
	flags.StringVar(&o.apnsTopic, "apns-topic", "", "the app's `bundle ID`, for devices without a topic")
	flags.BoolVar(&o.apnsSandbox, "apns-sandbox", false, "the key is for the platform apns-sandbox: apps signed for development")
	flags.StringVar(&o.fcmAccount, "fcm-service-account", "", "the JSON `file` of a Firebase service account's key; needs -csv")
	if flags.Parse(args) != nil {
		return nil, errUsage
	}
	switch {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("%q is not a flag", flags.Arg(0))
	case o.users < 1:
		return nil, fmt.Errorf("-users %d: there must be somebody", o.users)
	case !(o.dead >= 0 && o.busy >= 0 && o.dead+o.busy*1.5+strangers <= 100):
		return nil, fmt.Errorf("-dead %g -busy %g: percents, and with half of the latter no more than %g in all", o.dead, o.busy, 100-strangers)
	case o.real() && o.csv == "":
		return nil, errors.New("made-up tokens are not for real services: give your own with -csv")
	case o.real() && o.wrongKey:
		return nil, errors.New("-wrong-key is for simulated services")
	case o.apnsKey == "" && (o.apnsKeyID != "" || o.apnsTeamID != "" || o.apnsSandbox):
		return nil, errors.New("-apns-key is missing")
	}
	if files, err := os.ReadDir(o.dir); o.dir != "" && err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	} else if len(files) > 0 {
		return nil, fmt.Errorf("%s is not empty", o.dir)
	}
	return &o, nil
}
