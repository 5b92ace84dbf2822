package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// TestEndToEnd goes over real HTTP and WebSockets, and over the end of a process, which is stopped or killed.
func TestEndToEnd(t *testing.T) {
	t.Run("stopped", func(t *testing.T) { endToEnd(t, start) })
	t.Run("killed", func(t *testing.T) { endToEnd(t, startChild) })
}

func endToEnd(t *testing.T, start func(*testing.T, string) *process) {
	dir := t.TempDir()
	p := start(t, dir)
	p.call("im_open_login_svc/multiaccount_import", `{"AccountList":[{"UserID":"alice"},{"UserID":"bob"},{"UserID":"carol"},{"UserID":"dave"}]}`)
	p.call("all_member_push/im_set_attr_name", `{"AttrNames":{"0":"tier","1":"city"}}`)
	p.call("all_member_push/im_set_attr", `{"UserAttrs":[{"To_Account":"alice","Attrs":{"tier":"gold","city":"Shenzhen"}},
		{"To_Account":"bob","Attrs":{"tier":"gold","city":"Wuhan"}},{"To_Account":"dave","Attrs":{"tier":"gold","city":"Shenzhen"}}]}`)
	p.call("all_member_push/im_add_tag", `{"UserTags":[{"To_Account":"alice","Tags":["a"]},{"To_Account":"carol","Tags":["a","b"]},{"To_Account":"dave","Tags":["b"]}]}`)

	const (
		byTag  = `,"Condition":{"TagsOr":["a"]}`
		byAttr = `,"Condition":{"AttrsAnd":{"tier":"gold","city":"Shenzhen"}}`
	)
	// Alice and Bob are there, Carol and Dave come later.
	online := map[string]*client{"alice": p.dial("alice"), "bob": p.dial("bob")}
	tasks := map[int]string{}
	pushes := func() {
		for i, rest := range []string{"", week, byTag, byTag + week, byAttr, byAttr + week} {
			what := [...]string{"all now", "all", "tag now", "tag", "attr now", "attr"}[i]
			id := p.push(100+i, what, rest)
			if before, again := tasks[100+i]; again && id != before {
				t.Errorf("%s: the task is %s, not %s as before", what, id, before)
			}
			tasks[100+i] = id
		}
	}
	pushes()
	got := map[string]string{
		"alice": online["alice"].expect("all now", "all", "tag now", "tag", "attr now", "attr"),
		"bob":   online["bob"].expect("all now", "all"),
	}
	online["alice"].ack(got["alice"]) // Bob acknowledges nothing
	online["alice"].leave()
	carol := p.dial("carol")
	carol.ack(carol.expect("all", "tag"))
	carol.leave()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		p.stop()
	}()
	if p.s != nil {
		online["bob"].closed(websocket.StatusGoingAway, "the server is stopping")
	}
	<-stopped

	p = start(t, dir)
	pushes() // the same ones: nobody gets anything twice for it
	ids := map[string]bool{}
	for _, id := range tasks {
		ids[id] = true
	}
	if len(ids) != len(tasks) {
		t.Errorf("the tasks are %v", tasks)
	}
	p.push(200, "the end", week)
	for user, texts := range map[string][]string{"alice": {"the end"}, "bob": {"all", "the end"}, "carol": {"the end"}, "dave": {"all", "attr", "the end"}} {
		c := p.dial(user)
		c.ack(c.expect(texts...))
		c.leave()
	}
	p.push(201, "after the end", week)
	for _, user := range []string{"alice", "bob", "carol", "dave"} {
		p.dial(user).expect("after the end")
	}
	s := p.call("timpush/all_member_push_statistics", fmt.Sprintf(`{"TaskID":[%q]}`, tasks[101]))["Results"].([]any)[0].(map[string]any)
	if s["TotalCount"] != 4.0 || s["DeliveredCount"] != 4.0 {
		t.Errorf("the statistics are %v", s)
	}
}

// TestMetrics: what the API did is shown to Prometheus.
func TestMetrics(t *testing.T) {
	p := start(t, t.TempDir())
	p.call("im_open_login_svc/multiaccount_import", `{"AccountList":[{"UserID":"alice"},{"UserID":"bob"}]}`)
	alice := p.dial("alice")
	p.push(1, "to all", week)
	alice.ack(alice.expect("to all"))
	p.push(2, "to all again", week)
	alice.expect("to all again")
	status, text := p.get("/metrics")
	if status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	for _, line := range []string{
		"fanfare_users 2", "fanfare_online_users 1", "fanfare_pushes_total 2", `fanfare_deliveries_total{outcome="failed"} 0`,
		"fanfare_changes_refused 0", "# TYPE go_goroutines gauge", "# TYPE process_open_fds gauge",
	} {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("there is no %s in\n%s", line, text)
		}
	}
}

// TestMetricsOfATroubledDisk: when the size of a file cannot be told, all else is.
func TestMetricsOfATroubledDisk(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("an open file cannot be moved there")
	}
	dir := t.TempDir()
	p := start(t, dir)
	file, away := filepath.Join(dir, "journal.db"), filepath.Join(dir, "away")
	if err := os.Rename(file, away); err != nil {
		t.Fatal(err)
	}
	status, text := p.get("/metrics")
	if err := os.Rename(away, file); err != nil {
		t.Fatal(err)
	}
	if status != 200 || !strings.Contains(text, "\nfanfare_changes_refused 0\n") || strings.Contains(text, "\nfanfare_journal_file_bytes ") {
		t.Errorf("%d %s", status, text)
	}
	if !strings.Contains(p.log.String(), "journal.db") {
		t.Errorf("the log does not say why: %s", p.log)
	}
}
