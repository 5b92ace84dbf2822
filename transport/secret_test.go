package transport_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/fanfare-im/fanfare/transport"
)

func TestSecretIsNotShown(t *testing.T) {
	t.Parallel()
	of := struct{ Key transport.Secret }{transport.Secret("hidden")}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("options", "key", of.Key, "all", of)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("options", "key", of.Key, "all", of)
	b, err := json.Marshal(of)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{
		fmt.Sprint(of), fmt.Sprintf("%+v %#v %s %q %x %d %o %c %v", of, of, of.Key, of.Key, of.Key, of.Key, of.Key, of.Key, of.Key), fmt.Sprintf("%#v", &of), string(b), log.String(),
	} {
		if strings.Contains(shown, "hidden") || strings.Contains(shown, "104 105") || strings.Contains(shown, "68696464656e") || !strings.Contains(shown, "secret") && !strings.Contains(shown, "5b7365") {
			t.Errorf("shown: %s", shown)
		}
	}
}
