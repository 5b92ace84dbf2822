package embedding

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fanfare-im/fanfare"
	"github.com/jackc/pgx/v5"
)

const root = "../.."

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reader does what the page says.
type reader struct {
	dir       string // the new directory
	env       []string
	terminals map[int]*command
	last      int // the terminal that was used last
	db        *pgx.Conn
}

// TestPage follows the page from its first block to its last, and looks at what it promises between them.
func TestPage(t *testing.T) {
	t.Parallel()
	programs := postgresPrograms(t)
	for _, tool := range []string{"bash", "curl", "git"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	database := startPostgres(t, programs)
	tree, err := filepath.Abs(root)
	must(t, err)
	dir := t.TempDir()
	r := &reader{dir: dir, terminals: make(map[int]*command)}
	r.env = append(os.Environ(), goProxy(t, tree)...)
	r.env = append(r.env, "PATH="+programs+string(os.PathListSeparator)+os.Getenv("PATH"), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	r.db, err = pgx.Connect(t.Context(), database)
	must(t, err)
	defer r.db.Close(context.Background())

	settings := map[string]string{
		"DATABASE_URL": database, "LISTEN": freeAddress(t), "GATEWAY1": freeAddress(t), "GATEWAY2": freeAddress(t),
	}
	before := map[string]func(*testing.T){ // by what a block begins with
		"for to in all":    r.follow,
		"mv $DATA/fanfare": r.waitForBackup,
		"go test .":        r.gatewayDies,
	}
	after := map[string]func(*testing.T){ // by section
		"The first push": r.firstPush,
		"Your users":     func(t *testing.T) { r.lateCommit(t); r.twoDevices(t); r.rollingRestart(t) },
		"Backups":        r.restored,
	}
	blocks := readPage(t, filepath.Join(root, "docs", "embedding.md"))
	for i, b := range blocks {
		where := fmt.Sprintf("docs/embedding.md:%d", b.line)
		if b.caption == "" && b.language != "text" {
			t.Fatalf("%s: what is this?", where)
		}
		switch {
		case b.language == "sh" && settings != nil:
			r.set(t, b.text, settings)
			settings = nil
		case b.language == "sh":
			for begin, f := range before {
				if strings.HasPrefix(b.text, begin) {
					f(t)
					delete(before, begin)
				}
			}
			shown := i+1 < len(blocks) && blocks[i+1].language == "text" && blocks[i+1].caption == ""
			r.run(t, where, &b, shown)
		case b.language == "text":
			if n := b.terminal(); n != 0 {
				r.last = n
			}
			r.terminals[r.last].prints(t, b.text)
		case b.language == "diff":
			r.apply(t, where, b.text)
		default:
			r.write(t, where, &b)
		}
		if last := i == len(blocks)-1 || blocks[i+1].section != b.section; last && after[b.section] != nil {
			after[b.section](t)
			delete(after, b.section)
		}
	}
	if len(before)+len(after) > 0 {
		t.Fatal("the page has changed: not met were", before, after)
	}
	r.end(t)
}

// set takes the settings of all terminals, with values of the test for some of them.
func (r *reader) set(t *testing.T, text string, values map[string]string) {
	t.Helper()
	for name, value := range values {
		assignment := regexp.MustCompile(`\b` + name + `=\S+`)
		if !assignment.MatchString(text) {
			t.Fatal("the page does not set ", name)
		}
		text = assignment.ReplaceAllLiteralString(text, name+"='"+value+"'")
	}
	cmd := exec.Command("bash", "-e", "-c", text+"env -0")
	cmd.Env = r.env
	out, err := cmd.Output()
	must(t, err)
	r.env = strings.Split(strings.TrimRight(string(out), "\x00"), "\x00")
}

func (r *reader) setting(name string) string {
	for _, e := range r.env {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}

// run runs a block in its terminal. Unless it is shown what is printed, it is to come to its end.
func (r *reader) run(t *testing.T, where string, b *block, shown bool) {
	t.Helper()
	n := b.terminal()
	if n == 0 {
		t.Fatalf("%s: in which terminal?", where)
	}
	if c := r.terminals[n]; c != nil {
		if strings.Contains(b.caption, "Ctrl+C") {
			r.interrupt(t, c)
		} else {
			c.succeed(t) // by itself
		}
	}
	c := start(t, where, r.dir, r.env, b.text)
	r.terminals[n], r.last = c, n
	if !shown && !strings.Contains(b.text, "/events") {
		c.succeed(t)
	}
}

// interrupt is Ctrl+C. A server is to say that it has stopped.
func (r *reader) interrupt(t *testing.T, c *command) {
	t.Helper()
	c.signal(syscall.SIGINT)
	if c.wait(t); c == r.terminals[1] {
		c.prints(t, "… stopped")
	}
}

// write makes a file of a block.
func (r *reader) write(t *testing.T, where string, b *block) {
	t.Helper()
	name := b.file()
	if name == "" {
		t.Fatalf("%s: no file of %s in the caption %q", where, b.language, b.caption)
	}
	name = filepath.Join(r.dir, filepath.FromSlash(name))
	must(t, os.MkdirAll(filepath.Dir(name), 0o700))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	must(t, err)
	_, err = f.WriteString(b.text)
	must(t, err)
	must(t, f.Close())
}

// apply makes the changes of a block.
func (r *reader) apply(t *testing.T, where, text string) {
	t.Helper()
	cmd := exec.Command("git", "apply", "-p0", "-")
	cmd.Dir, cmd.Env, cmd.Stdin = r.dir, r.env, strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", where, err, out)
	}
}

// announce returns how many an announcement was accepted for.
func (r *reader) announce(t *testing.T, to, text string) (n int) {
	t.Helper()
	form := url.Values{"to": {to}, "text": {text}}
	req, err := http.NewRequest("POST", "http://"+r.setting("LISTEN")+"/announce", strings.NewReader(form.Encode()))
	must(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+r.setting("OPERATOR"))
	answer, err := http.DefaultClient.Do(req)
	must(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	must(t, err)
	if _, err := fmt.Sscanf(string(body), "accepted for %d", &n); err != nil {
		t.Fatalf("%s: %s", answer.Status, body)
	}
	return n
}

// reach expects an announcement to be for so many.
func (r *reader) reach(t *testing.T, to string, want int) {
	t.Helper()
	if n := r.announce(t, to, "Hello"); n != want {
		t.Fatalf("%s is %d, not %d", to, n, want)
	}
}

// get connects a user until a text has come.
func (r *reader) get(t *testing.T, address, token, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+address+"/events", nil)
	must(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(req)
	must(t, err)
	defer answer.Body.Close()
	var all strings.Builder
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		fmt.Fprintln(&all, lines.Text())
		if strings.Contains(lines.Text(), want) {
			return
		}
	}
	t.Fatalf("%q has not come, but\n%s", want, all.String())
}

// firstPush: who has acknowledged the first announcement did not get it again.
func (r *reader) firstPush(t *testing.T) {
	out, _ := r.terminals[2].printed()
	if strings.Contains(out, "is open tonight") || strings.Count(out, "event:") != 1 {
		t.Fatal(out)
	}
}

// follow waits until the position is that of the last change.
func (r *reader) follow(t *testing.T) {
	t.Helper()
	var last struct {
		XID uint64
		ID  string
	}
	must(t, r.db.QueryRow(t.Context(), "select xid, id from user_changes order by xid desc, id desc limit 1").Scan(&last.XID, &last.ID))
	want := last
	r.eventually(t, "the position is behind", func() bool {
		text, err := os.ReadFile(filepath.Join(r.dir, r.setting("DATA"), "position"))
		must(t, err)
		must(t, json.Unmarshal(text, &last))
		return last == want
	})
}

// eventually asks again and again about another process.
func (r *reader) eventually(t *testing.T, otherwise string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal(otherwise)
		}
	}
}

// lateCommit: a change that is committed behind a later one is not lost, and holds that up.
func (r *reader) lateCommit(t *testing.T) {
	ctx := t.Context()
	other, err := pgx.Connect(ctx, r.setting("DATABASE_URL"))
	must(t, err)
	defer other.Close(context.Background())
	open, err := other.Begin(ctx)
	must(t, err)
	_, err = open.Exec(ctx, "update users set tags = '{late}' where id = 'alice'")
	must(t, err)
	_, err = r.db.Exec(ctx, "update users set tags = '{early}' where id = 'carol'")
	must(t, err)
	var now time.Time
	for range 2 { // the follower has asked again, and it has taken what it got
		must(t, r.db.QueryRow(ctx, "select clock_timestamp()").Scan(&now))
		r.eventually(t, "the follower does not ask", func() bool {
			var asked bool
			must(t, r.db.QueryRow(ctx, "select exists (select from pg_stat_activity where pid <> pg_backend_pid() and query ~ 'from user_changes c' and query_start > $1)", now).Scan(&asked))
			return asked
		})
	}
	r.reach(t, "tag:early", 0)
	must(t, open.Commit(ctx))
	r.follow(t)
	r.reach(t, "tag:early", 1)
	r.reach(t, "tag:late", 1)
}

// twoDevices: a user who is connected twice gets what comes on both.
func (r *reader) twoDevices(t *testing.T) {
	const connect = `curl -sN -H "Authorization: Bearer token-of-carol" $LISTEN/events`
	phone, desk := start(t, "the phone", r.dir, r.env, connect), start(t, "the desk", r.dir, r.env, connect)
	phone.prints(t, ": connected")
	desk.prints(t, ": connected")
	if n := r.announce(t, `user:"carol"`, "On both."); n != 1 {
		t.Fatal(n)
	}
	phone.prints(t, "…On both.…")
	desk.prints(t, "…On both.…")
	phone.signal(syscall.SIGINT)
	desk.signal(syscall.SIGINT)
}

// rollingRestart: the next server waits for the one that ends, which does on SIGTERM, and its clients see the end of their connections.
func (r *reader) rollingRestart(t *testing.T) {
	alice := start(t, "Alice", r.dir, r.env, `curl -sN -H "Authorization: Bearer token-of-alice" $LISTEN/events`)
	alice.prints(t, ": connected")
	former, next := r.terminals[1], start(t, "the next server", r.dir, r.env, "./chat")
	next.prints(t, "… waiting: …")
	former.signal(syscall.SIGTERM)
	former.wait(t)
	former.prints(t, "… stopped")
	alice.succeed(t)
	next.prints(t, "… ready")
	r.terminals[1] = next
}

// waitForBackup waits until a backup was begun and ended.
func (r *reader) waitForBackup(t *testing.T) {
	if n := r.announce(t, `user:"alice"`, "Before the backup."); n != 1 {
		t.Fatal(n)
	}
	var seen []os.FileInfo
	r.eventually(t, "there is no backup", func() bool {
		now, err := os.Stat(filepath.Join(r.dir, r.setting("DATA"), "backup.tar"))
		if err == nil && (len(seen) == 0 || !os.SameFile(seen[len(seen)-1], now)) {
			seen = append(seen, now)
		}
		return len(seen) == 3 // the first may be of before, and the second have been begun before
	})
}

// restored: users, what they are, and what waits for them are as they were.
func (r *reader) restored(t *testing.T) {
	r.reach(t, "all", 2)
	r.reach(t, `attr.tier = "platinum" and tag:late`, 1)
	r.get(t, r.setting("LISTEN"), "token-of-alice", "Before the backup.")
}

// gatewayDies: what is announced meanwhile comes over another gateway, and the gateways find a server that was started again.
func (r *reader) gatewayDies(t *testing.T) {
	r.terminals[4].signal(syscall.SIGKILL)
	r.terminals[2].wait(t)
	if n := r.announce(t, `user:"alice"`, "While the gateway was dead."); n != 1 {
		t.Fatal(n)
	}
	r.get(t, r.setting("GATEWAY2"), "token-of-alice", "While the gateway was dead.")

	r.interrupt(t, r.terminals[1])
	r.terminals[1] = start(t, "the server", r.dir, r.env, "./chat")
	r.terminals[1].prints(t, "… ready")
	if n := r.announce(t, `user:"carol"`, "After a restart."); n != 1 {
		t.Fatal(n)
	}
	r.terminals[6].prints(t, "…After a restart.…")
}

// end stops the server, whose files are then as they should be, with nothing left to replay.
func (r *reader) end(t *testing.T) {
	r.interrupt(t, r.terminals[1])
	dir := filepath.Join(r.dir, r.setting("DATA"), "fanfare")
	if left, err := filepath.Glob(filepath.Join(dir, "segment-*")); len(left) > 0 || err != nil {
		t.Fatal(left, err)
	}
	p, err := fanfare.Open(dir, fanfare.Options{})
	must(t, err)
	must(t, p.Check(t.Context()))
	must(t, p.Close(context.Background()))
}
