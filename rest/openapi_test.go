package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/fanfare-im/fanfare"
)

// description is what of the description the test reads.
type description struct {
	Paths map[string]struct {
		Post struct {
			OperationID string
			RequestBody struct{ Content map[string]media }
			Responses   map[string]struct{ Content map[string]media }
		}
	}
}

type media struct{ Example json.RawMessage }

const jsonMedia = "application/json"

// TestDescription holds the description to the handler: it has the commands that there are, its examples are taken and answered, and what is
// answered is what it says.
func TestDescription(t *testing.T) {
	t.Parallel()
	s := newScene(t, t.TempDir(), Options{Kick: func(context.Context, string) error { return nil }}, fanfare.Options{})
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	var d description
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	all, err := jsonschema.UnmarshalJSON(bytes.NewReader(w.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("api.json", all); err != nil {
		t.Fatal(err)
	}
	schema := func(path, place string) *jsonschema.Schema {
		t.Helper()
		sch, err := c.Compile("api.json#/paths/" + strings.ReplaceAll(path, "/", "~1") + "/post/" + place + "/content/application~1json/schema")
		if err != nil {
			t.Fatal(path, err)
		}
		return sch
	}
	holds := func(what string, sch *jsonschema.Schema, v []byte) {
		t.Helper()
		of, err := jsonschema.UnmarshalJSON(bytes.NewReader(v))
		if err == nil {
			err = sch.Validate(of)
		}
		if err != nil {
			t.Errorf("%s: %s: %v", what, v, err)
		}
	}
	if got := len(d.Paths); got != len(commands) {
		t.Errorf("%d paths are described, there are %d commands", got, len(commands))
	}
	seen := make(map[string]bool)
	task := ""
	// In an order in which each finds what it needs.
	order := []string{"multiaccount_import", "account_import", "account_check", "set_attr_name", "get_attr_name", "set_attr", "get_attr", "remove_attr", "add_tag", "get_tag", "remove_tag", "account_delete", "push",
		"all_member_push_statistics", "revoke", "query_online_status", "querystate", "kick", "remove_all_tags", "clear_all_tags"}
	for _, name := range order {
		for _, service := range []string{"im_open_login_svc/", "all_member_push/im_", "timpush/", "openim/"} {
			if commands[service+name] == nil {
				continue
			}
			path := "/v4/" + service + name
			op := d.Paths[path].Post
			if op.OperationID == "" || seen[op.OperationID] {
				t.Errorf("%s: the operation %q is not described, or twice", path, op.OperationID)
				continue
			}
			seen[op.OperationID] = true
			request, answer := op.RequestBody.Content[jsonMedia].Example, op.Responses["200"].Content[jsonMedia].Example
			said := schema(path, "responses/200")
			holds(path+" request", schema(path, "requestBody"), request)
			holds(path+" example", said, answer)
			const anyTask = "00000000000000010123456789abcdef"
			got := s.call(service+name, strings.ReplaceAll(string(request), anyTask, task))
			b, _ := json.Marshal(got)
			holds(path+" answer", said, b)
			if id, is := got["TaskId"].(string); is {
				task = id
			}
			// The same names and values as in the example, the task's ID aside.
			var want map[string]any
			_ = json.Unmarshal(bytes.ReplaceAll(answer, []byte(anyTask), []byte(task)), &want)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s answers %v, and is described to answer %v", path, got, want)
			}
			failed := s.send(http.MethodPost, path+s.query("usersig", "x"), string(request))
			b, _ = json.Marshal(failed)
			holds(path+" failure", said, b)
		}
	}
	for name := range commands {
		if !seen[strings.ReplaceAll(name, "/", "_")] {
			t.Errorf("%s was not tried: %v", name, slices.Contains(order, name))
		}
	}
	if out := s.send(http.MethodPost, "/openapi.json", ""); out["ErrorCode"] != float64(codeBadHTTP) {
		t.Error(out)
	}
}
