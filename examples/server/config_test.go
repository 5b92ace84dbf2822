package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare/rest/usersig"
)

// env is an environment.
type env map[string]string

func (e env) get(name string) string { return e[name] }

func TestConfig(t *testing.T) {
	var log bytes.Buffer
	e := env{"FANFARE_LISTEN": "127.0.0.1:1", "FANFARE_DATA": "d", "FANFARE_SDKAPPID": "7", "FANFARE_KEY": "hidden,second", "FANFARE_ADMIN": "x,y", "FANFARE_CONSOLE_PASSWORD": "hidden"}
	c, err := readConfig([]string{"-listen", "127.0.0.1:2", "-cloud-limits"}, e.get, &log)
	if err != nil {
		t.Fatal(err)
	}
	if c.listen != "127.0.0.1:2" || c.data != "d" || c.sdkAppID != 7 || len(c.keys) != 2 || string(c.keys[1]) != "second" || len(c.admins) != 2 || !c.cloudLimits || string(c.consolePassword) != "hidden" || c.consoleUser != "operator" {
		t.Errorf("read: %+v", c)
	}
	for _, args := range [][]string{{"-help"}, {"-what"}, {"-key", "hidden", "extra"}, {"-sdkappid", "x"}, {"-key", "hidden,,"}, {"-admin", "a,,b"}, {"-data", ""}, {"hidden"}, {"-console-password", "hidden", "-console-user", ""}} {
		_, err := readConfig(args, env{"FANFARE_KEY": "hidden", "FANFARE_SDKAPPID": "1"}.get, &log)
		if err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: %v", args, err)
		}
	}
	if strings.Contains(log.String(), "hidden") {
		t.Errorf("a key is shown:\n%s", log.String())
	}
}

func TestSign(t *testing.T) {
	var out, log bytes.Buffer
	if err := run(t.Context(), []string{"sign", "-sdkappid", "7", "-key", "new,old", "-identifier", "alice", "-expire", "1h"}, env{}.get, &out, &log); err != nil {
		t.Fatal(err)
	}
	sig, one := strings.CutSuffix(out.String(), "\n")
	s, err := usersig.Verify(sig, 7, "alice", time.Now(), []byte("new"))
	if err != nil || !one || s.Expire != time.Hour || log.Len() > 0 {
		t.Errorf("%q says %+v, %v; the log is %q", out.String(), s, err, log.String())
	}
	for _, args := range []string{"-key k -identifier a", "-sdkappid 7 -identifier a", "-sdkappid 7 -key k", "-sdkappid 7 -key k -identifier a -expire 1ms"} {
		if err := run(t.Context(), append([]string{"sign"}, strings.Fields(args)...), env{}.get, &out, &log); err == nil {
			t.Errorf("%s is no error", args)
		}
	}
}
