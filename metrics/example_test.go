package metrics_test

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/metrics"
)

func ExampleNew() {
	dir, err := os.MkdirTemp("", "")
	check(err)
	defer os.RemoveAll(dir)
	p, err := fanfare.Open(dir, fanfare.Options{})
	check(err)
	defer p.Close(context.Background())
	check(p.Register(context.Background(), "alice", "bob"))

	registry := prometheus.NewRegistry()
	registry.MustRegister(metrics.New(p, metrics.Options{}))
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}) // to be mounted at /metrics

	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text, err := io.ReadAll(w.Body)
	check(err)
	for line := range strings.SplitSeq(string(text), "\n") {
		if strings.Contains(line, "fanfare_users") {
			fmt.Println(line)
		}
	}
	// Output:
	// # HELP fanfare_users Users that are known.
	// # TYPE fanfare_users gauge
	// fanfare_users 2
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
