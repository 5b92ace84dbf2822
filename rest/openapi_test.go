package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/fanfare-im/fanfare"
)

// openapiDoc is the description as tests read it.
type openapiDoc struct {
	OpenAPI string
	Tags    []struct{ Name, Description string }
	Paths   map[string]map[string]openapiOperation

	all      any // the same, undecoded
	compiler *jsonschema.Compiler
}

type openapiOperation struct {
	OperationID, Summary, Description string
	Tags                              []string
	Parameters                        []struct {
		Ref string `json:"$ref"`
	}
	RequestBody struct{ Content map[string]openapiMedia }
	Responses   map[string]struct{ Content map[string]openapiMedia }
}

type openapiMedia struct{ Example json.RawMessage }

const (
	openapiJSON     = "application/json"
	openapiAnyTask  = "00000000000000010123456789abcdef" // stands in examples for the ID that a push gets
	openapiRequest  = "requestBody"
	openapiResponse = "responses/200"
)

func openapiRead(t *testing.T) *openapiDoc {
	t.Helper()
	d := new(openapiDoc)
	if err := json.Unmarshal(openAPI, d); err != nil {
		t.Fatal(err)
	}
	var err error
	if d.all, err = jsonschema.UnmarshalJSON(bytes.NewReader(openAPI)); err != nil {
		t.Fatal(err)
	}
	d.compiler = jsonschema.NewCompiler()
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	if err := d.compiler.AddResource("api.json", d.all); err != nil {
		t.Fatal(err)
	}
	return d
}

// compile makes the schema at a place, with what it refers to.
func (d *openapiDoc) compile(t *testing.T, place string) *jsonschema.Schema {
	t.Helper()
	s, err := d.compiler.Compile("api.json#" + place)
	if err != nil {
		t.Fatal(place, err)
	}
	return s
}

// of is the schema of what a path takes or answers.
func (d *openapiDoc) of(t *testing.T, path, side string) *jsonschema.Schema {
	t.Helper()
	return d.compile(t, "/paths/"+strings.ReplaceAll(path, "/", "~1")+"/post/"+side+"/content/application~1json/schema")
}

func openapiCheck(s *jsonschema.Schema, v []byte) error {
	of, err := jsonschema.UnmarshalJSON(bytes.NewReader(v))
	if err != nil {
		return err
	}
	return s.Validate(of)
}

func openapiHolds(t *testing.T, what string, s *jsonschema.Schema, v []byte) {
	t.Helper()
	if err := openapiCheck(s, v); err != nil {
		t.Errorf("%s: %s: %v", what, v, err)
	}
}

func openapiText(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// openapiRefs calls for each $ref below a value.
func openapiRefs(v any, each func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for key, of := range v {
			if ref, is := of.(string); is && key == "$ref" {
				each(ref)
			}
			openapiRefs(of, each)
		}
	case []any:
		for _, of := range v {
			openapiRefs(of, each)
		}
	}
}

// openapiAt is what is at a place of the description, nil if nothing.
func (d *openapiDoc) at(place string) any {
	v := d.all
	for part := range strings.SplitSeq(strings.TrimPrefix(place, "#/"), "/") {
		o, is := v.(map[string]any)
		if !is {
			return nil
		}
		v = o[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
	}
	return v
}

// TestOpenAPIForm looks at the description by itself: each command is in it, and nothing else, and what it refers to is there.
func TestOpenAPIForm(t *testing.T) {
	t.Parallel()
	d := openapiRead(t)
	if !strings.HasPrefix(d.OpenAPI, "3.1.") {
		t.Errorf("openapi %q", d.OpenAPI)
	}
	paths := make([]string, 0, len(commands))
	for name := range commands {
		paths = append(paths, "/v4/"+name)
	}
	slices.Sort(paths)
	if got := slices.Sorted(maps.Keys(d.Paths)); !slices.Equal(got, paths) {
		t.Errorf("described are %v, the commands are %v", got, paths)
	}
	services := make(map[string]bool)
	for _, tag := range d.Tags {
		services[tag.Name] = tag.Description != ""
	}
	ids := make(map[string]string)
	for path, methods := range d.Paths {
		op, is := methods["post"]
		if !is || len(methods) != 1 {
			t.Errorf("%s has the methods %v", path, slices.Sorted(maps.Keys(methods)))
		}
		if other, twice := ids[op.OperationID]; twice || op.OperationID == "" {
			t.Errorf("%s has the operationId %q, as %q", path, op.OperationID, other)
		}
		ids[op.OperationID] = path
		if service := strings.Split(path, "/")[2]; len(op.Tags) != 1 || op.Tags[0] != service || !services[service] {
			t.Errorf("%s has the tags %v", path, op.Tags)
		}
		if op.Summary == "" || op.Description == "" {
			t.Errorf("%s has no summary or no description", path)
		}
		var parameters []string
		for _, p := range op.Parameters {
			parameters = append(parameters, strings.TrimPrefix(p.Ref, "#/components/parameters/"))
		}
		if want := []string{"sdkappid", "identifier", "usersig", "random", "contenttype"}; !slices.Equal(parameters, want) {
			t.Errorf("%s has the parameters %v, want %v", path, parameters, want)
		}
		if len(op.RequestBody.Content[openapiJSON].Example) == 0 || len(op.Responses["200"].Content[openapiJSON].Example) == 0 {
			t.Errorf("%s lacks an example", path)
		}
		if len(op.Responses) != 1 {
			t.Errorf("%s has other answers than with status 200", path)
		}
		openapiHolds(t, path+" request", d.of(t, path, openapiRequest), op.RequestBody.Content[openapiJSON].Example)
		openapiHolds(t, path+" answer", d.of(t, path, openapiResponse), op.Responses["200"].Content[openapiJSON].Example)
	}
	used := make(map[string]bool)
	openapiRefs(d.all, func(ref string) {
		if used[ref] = true; !strings.HasPrefix(ref, "#/components/") || d.at(ref) == nil {
			t.Errorf("there is no %s", ref)
		}
	})
	for _, kind := range []string{"schemas", "parameters"} {
		for name := range d.at("#/components/" + kind).(map[string]any) {
			place := "/components/" + kind + "/" + name
			if !used["#"+place] {
				t.Errorf("nothing refers to %s", place)
			}
			if kind == "parameters" {
				place += "/schema"
			}
			d.compile(t, place)
		}
	}
}

// TestOpenAPICodes: the envelope tells of the codes that there are, and of no other.
func TestOpenAPICodes(t *testing.T) {
	t.Parallel()
	f, err := parser.ParseFile(token.NewFileSet(), "answer.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	ast.Inspect(f, func(n ast.Node) bool {
		if c, is := n.(*ast.ValueSpec); is && strings.HasPrefix(c.Names[0].Name, "code") && len(c.Values) == 1 {
			want = append(want, c.Values[0].(*ast.BasicLit).Value)
		}
		return true
	})
	text, _ := openapiRead(t).at("#/components/schemas/Envelope/properties/ErrorCode/description").(string)
	got := regexp.MustCompile(`\b[679]0?\d{3,4}\b`).FindAllString(text, -1)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || len(want) == 0 {
		t.Errorf("described are %v, there are %v", got, want)
	}
}

// TestOpenAPIElements: elements are described with the members that are looked at.
func TestOpenAPIElements(t *testing.T) {
	t.Parallel()
	d := openapiRead(t)
	content := func(place string, members []member) {
		t.Helper()
		needed, types := []any{}, map[string]any{}
		for _, m := range members {
			var of []any
			switch m.kind {
			case 's':
				of = []any{"string"}
			case 'n':
				of = []any{"number", "string"}
			case 'l':
				of = []any{"array"}
			}
			if m.needed {
				needed = append(needed, m.name)
			} else {
				of = append(of, "null")
			}
			types[m.name] = of
		}
		o, _ := d.at(place).(map[string]any)
		got := make(map[string]any)
		properties, _ := o["properties"].(map[string]any)
		for name, p := range properties {
			of := p.(map[string]any)["type"]
			if one, is := of.(string); is {
				of = []any{one}
			}
			got[name] = of
		}
		required, _ := o["required"].([]any)
		if !reflect.DeepEqual(got, types) || !slices.Equal(required, needed) {
			t.Errorf("%s: described are %v, needed %v; looked at are %v, needed %v", place, got, required, types, needed)
		}
	}
	list, _ := d.at("#/components/schemas/Element/oneOf").([]any)
	if len(list) != len(elements) {
		t.Errorf("%d elements are described, there are %d", len(list), len(elements))
	}
	for kind, members := range elements {
		content("#/components/schemas/"+kind+"/properties/MsgContent", members)
	}
	content("#/components/schemas/ImageInfo", imageMembers)
}

// openapiOrder is one in which each command finds what its example needs.
var openapiOrder = []string{
	"im_open_login_svc/multiaccount_import", "im_open_login_svc/account_import", "im_open_login_svc/account_check", "im_open_login_svc/account_delete",
	"all_member_push/im_set_attr_name", "timpush/set_attr_name", "all_member_push/im_get_attr_name", "timpush/get_attr_name",
	"all_member_push/im_set_attr", "timpush/set_attr", "all_member_push/im_get_attr", "timpush/get_attr", "all_member_push/im_remove_attr", "timpush/remove_attr",
	"all_member_push/im_add_tag", "timpush/add_tag", "all_member_push/im_get_tag", "timpush/get_tag", "all_member_push/im_remove_tag", "timpush/remove_tag",
	"all_member_push/im_push", "timpush/push", "timpush/all_member_push_statistics", "timpush/revoke",
	"timpush/add_sched_task", "timpush/modify_sched_task", "timpush/get_sched_task", "timpush/list_sched_task", "timpush/delete_sched_task",
	"openim/query_online_status", "openim/querystate", "im_open_login_svc/kick", "all_member_push/im_remove_all_tags", "timpush/clear_all_tags",
}

func openapiScene(t *testing.T) *scene {
	t.Helper()
	return newScene(t, t.TempDir(), Options{Kick: func(context.Context, string) error { return nil }}, fanfare.Options{})
}

// TestOpenAPIExamples sends the examples to a handler, in a fixed order: they are taken, the answers are those of the description, and the same
// requests are refused in its form when the signature is wrong.
func TestOpenAPIExamples(t *testing.T) {
	t.Parallel()
	d, s := openapiRead(t), openapiScene(t)
	envelope := d.compile(t, "/components/schemas/Envelope")
	if got, want := slices.Sorted(slices.Values(openapiOrder)), slices.Sorted(maps.Keys(commands)); !slices.Equal(got, want) {
		t.Fatalf("%v are tried, the commands are %v", got, want)
	}
	task := ""
	for _, name := range openapiOrder {
		path := "/v4/" + name
		op := d.Paths[path]["post"]
		said := d.of(t, path, openapiResponse)
		request := strings.ReplaceAll(string(op.RequestBody.Content[openapiJSON].Example), openapiAnyTask, task)
		got := s.call(name, request)
		if got["ActionStatus"] != "OK" {
			t.Errorf("%s refuses its example: %v", path, got)
			continue
		}
		openapiHolds(t, path+" answer", said, openapiText(t, got)) // which has no property that is not described
		if id, is := got["TaskId"].(string); is {
			task = id
		}
		var want map[string]any
		if err := json.Unmarshal(bytes.ReplaceAll(op.Responses["200"].Content[openapiJSON].Example, []byte(openapiAnyTask), []byte(task)), &want); err != nil {
			t.Error(path, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s answers %v, and is described to answer %v", path, got, want)
		}
		failed := openapiText(t, s.send(http.MethodPost, path+s.query("usersig", "x"), request))
		openapiHolds(t, path+" failure", said, failed)
		openapiHolds(t, path+" failure", envelope, failed)
		// An answer with something that is not described is found.
		got["Surprise"] = 1
		if openapiCheck(said, openapiText(t, got)) == nil {
			t.Errorf("%s: an answer may have any property", path)
		}
	}
	for _, out := range []map[string]any{
		s.send(http.MethodPost, "/x", ""), s.send(http.MethodPost, "/v4/openim/x", ""), s.send(http.MethodGet, "/v4/openim/querystate", ""),
		s.send(http.MethodPost, "/v4/openim/querystate", "{}"), s.call("openim/querystate", "{"), s.call("timpush/push", "[]"), s.call("timpush/revoke", `{"TaskId":"x"}`),
	} {
		if len(out) != 3 || out["ActionStatus"] != "FAIL" {
			t.Errorf("refused with %v", out)
		}
		openapiHolds(t, "failure", envelope, openapiText(t, out))
	}
}

// TestOpenAPILiberal: what is taken beside the examples is described, and what is refused for its form or size is not.
func TestOpenAPILiberal(t *testing.T) {
	t.Parallel()
	d, s := openapiRead(t), openapiScene(t)
	s.call("im_open_login_svc/multiaccount_import", `{"Accounts":["u1","u2"]}`)
	s.call("timpush/set_attr_name", `{"AttrNames":{"0":"sex","1":"city"}}`)
	ten := strings.Repeat(`"t",`, 9) + `"t"`
	long := `"` + strings.Repeat("x", 51) + `"`
	users := func(n int, of string) string { return strings.TrimSuffix(strings.Repeat(of+",", n), ",") }
	type body struct {
		text string
		code int
	}
	push := func(more string) string { return text(`,"MsgRandom":1` + more) }
	with := func(element string) string { return `{"MsgRandom":1,"MsgBody":[` + element + `]}` }
	both := func(name string) []string { return []string{"all_member_push/im_" + name, "timpush/" + name} }
	for _, of := range []struct {
		names  []string
		bodies []body
	}{
		{both("add_tag"), []body{
			{`{"Tags":[{"To_Account":"u1","Tags":["a"]}]}`, 0}, {`{"To_Account":"u1","Tags":["a"]}`, 0}, {`{"UserTags":{"To_Account":"u1","Tags":{"0":"a","1":"b"}}}`, 0},
			{`{"UserTags":[{"To_Account":"u1","Tags":[` + ten + `]}]}`, 0}, {`{"UserTags":[{"To_Account":"u1","Tags":[` + ten + `,"t"]}]}`, codeTooManyTags},
			{`{"UserTags":[{"To_Account":"u1","Tags":[` + long + `]}]}`, codeTagTooLong}, {`{"UserTags":[{"To_Account":"u1","Tags":[""]}]}`, codeEmptyTag},
			{`{"UserTags":[{"To_Account":"u1","Tags":[]}]}`, codePushBadJSON}, {`{"UserTags":[]}`, codePushBadJSON}, {`{}`, codePushBadJSON}, {`{"UserTags":[{"Tags":["a"]}]}`, codePushBadJSON},
			{`{"UserTags":[` + users(100, `{"To_Account":"u1","Tags":["a"]}`) + `]}`, 0}, {`{"UserTags":[` + users(101, `{"To_Account":"u1","Tags":["a"]}`) + `]}`, codeTooMany},
			{`{"UserTags":[{"To_Account":"","Tags":["a"]}]}`, codePushBadJSON}, {`{"UserTags":[{"To_Account":7,"Tags":["a"]}]}`, codeNotString}, {`{"UserTags":[{"To_Account":` + long + `,"Tags":["a"]}]}`, 0},
		}},
		{[]string{"timpush/add_tag"}, []body{{`{"To_Account":"u1","Tags":["a"],"Replace":0}`, 0}, {`{"To_Account":"u1","Tags":["a"],"Replace":"1"}`, 0}}},
		{both("remove_tag"), []body{{`{"Tags":[{"To_Account":"u1","Tags":{"x":"a"}}]}`, 0}, {`{"To_Account":"u1","Tags":["a"]}`, 0}, {`{"To_Account":"u1"}`, codePushBadJSON}}},
		{both("get_tag"), []body{{`{"To_Account":"u1"}`, 0}, {`{"To_Account":["u1","nobody"]}`, 0}, {`{"To_Account":[]}`, codePushBadJSON}, {`{}`, codePushBadJSON},
			{`{"To_Account":[` + users(101, `"u1"`) + `]}`, codeTooMany}, {`{"To_Account":[` + long + `]}`, 0}, {`{"To_Account":[""]}`, codePushBadJSON}, {`{"To_Account":[7]}`, codeNotString}}},
		{both("set_attr"), []body{
			{`{"Attrs":[{"To_Account":"u1","Attrs":{"sex":1,"city":true}}]}`, 0}, {`{"To_Account":"u1","Attrs":{"sex":"f"}}`, 0}, {`{"UserAttrs":{"To_Account":"u1","Attrs":{"sex":"f"}}}`, 0},
			{`{"To_Account":"u1","Attrs":{}}`, codeAttribute}, {`{"To_Account":"u1","Attrs":{"sex":` + long + `}}`, codeAttribute}, {`{"To_Account":"u1","Attrs":{"sex":""}}`, codeAttribute},
			{`{"To_Account":"u1","Attrs":{"sex":[]}}`, codeAttribute}, {`{"UserAttrs":[` + users(101, `{"To_Account":"u1","Attrs":{"sex":"f"}}`) + `]}`, codeTooMany},
		}},
		{both("remove_attr"), []body{{`{"To_Account":"u1","Attrs":{"sex":null}}`, 0}, {`{"Attrs":[{"To_Account":"u1","Attrs":["sex"]}]}`, 0}, {`{"To_Account":"u1","Attrs":[]}`, codeAttribute}, {`{"UserAttrs":[{"To_Account":"u1","Attrs":[]}]}`, codeAttribute}, {`{"UserAttrs":[]}`, codePushBadJSON}}},
		{both("get_attr_name"), []body{{`{}`, 0}, {`[]`, 0}, {`[1]`, codePushBadJSON}}},
		{both("set_attr_name"), []body{{`{"AttrNames":{"9":"x"}}`, 0}, {`{"AttrNames":{"10":"x"}}`, codeAttribute}, {`{"AttrNames":{"0":""}}`, codeAttribute}, {`{"AttrNames":{"0":` + long + `}}`, codeAttribute},
			{`{}`, codePushBadJSON}, {`{"AttrNames":{}}`, codePushBadJSON}}},
		{[]string{"all_member_push/im_push", "timpush/push"}, []body{
			{push(``), 0}, {push(`,"Condition":null,"OfflinePushInfo":null,"From_Account":""`), 0}, {push(`,"Condition":{}`), 0}, {push(`,"Condition":[]`), 0}, {push(`,"Condition":[[]]`), 0}, {push(`,"Condition":[null]`), 0}, {push(`,"Condition":{"AttrsOr":[],"AttrsAnd":null}`), 0}, {push(`,"Condition":{"AttrsOr":["x"]}`), codeAttribute}, {push(`,"Condition":[{"TagsOr":["a"]}]`), 0},
			{push(`,"Condition":{"TagsOr":{"0":"a"},"TagsAnd":null,"AttrsOr":{},"TagsNot":[]}`), 0}, {push(`,"Condition":{"AttrsAnd":{"sex":1,"city":false}}`), 0}, {push(`,"Condition":[{},{}]`), codePushBadJSON},
			{push(`,"Condition":"x"`), codePushBadJSON}, {push(`,"Condition":{"TagsOr":[` + ten + `,"t"]}`), codeTooManyTags}, {push(`,"Condition":{"TagsNot":[""]}`), codeEmptyTag},
			{push(`,"Condition":{"TagsAnd":[` + long + `]}`), codeTagTooLong}, {push(`,"Condition":{"AttrsOr":{"sex":null}}`), codeAttribute},
			{push(`,"MsgLifeTime":604800`), 0}, {push(`,"MsgLifeTime":"60"`), 0}, {push(`,"MsgLifeTime":604801`), codeLifeTime}, {push(`,"MsgLifeTime":-1`), codeLifeTime}, {push(`,"OnlineOnlyFlag":1`), 0},
			{push(`,"OfflinePushInfo":{"PushFlag":"1"}`), 0}, {push(`,"OfflinePushInfo":{"PushFlag":2}`), codePushBadJSON}, {push(`,"OfflinePushInfo":[]`), 0}, {push(`,"OfflinePushInfo":[1]`), codePushBadJSON}, {push(`,"OfflinePushInfo":{"ApnsInfo":[],"AndroidInfo":[1]}`), codePushBadJSON}, {push(`,"OfflinePushInfo":{"Ext":[]}`), codePushBadJSON}, {push(`,"OfflinePushInfo":{"ApnsInfo":{"Sound":{}}}`), codePushBadJSON}, {push(`,"OfflinePushInfo":{"Title":{}}`), codePushBadJSON},
			{push(`,"OfflinePushInfo":{"PushFlag":0,"Title":"t","Ext":{"a":1},"AndroidInfo":{"Sound":"x","OPPOChannelID":1,"HuaWeiImportance":"LOW"},"ApnsInfo":{"MutableContent":1,"BadgeMode":0,"Image":"x"}}`), 0},
			{push(`,"From_Account":` + long), codeBadParameter}, {push(`,"CloudCustomData":1`), codePushBadJSON}, {push(`,"DataId":"d"`), 0}, {push(`,"DataId":"` + strings.Repeat("x", 65) + `"`), codePushBadJSON},
			{text(`,"MsgRandom":-2147483648`), 0}, {text(`,"MsgRandom":4294967295`), 0}, {text(`,"MsgRandom":4294967296`), codeNoMsgRandom}, {text(`,"MsgRandom":-2147483649`), codeNoMsgRandom}, {text(`,"MsgRandom":"1"`), codeNoMsgRandom},
			{text(`,"MsgRandom":1.5`), codeNoMsgRandom}, {text(``), codeNoMsgRandom}, {`{"MsgRandom":1}`, codeBadMsgBody}, {with(``), codeBadMsgBody}, {`{"MsgRandom":1,"MsgBody":{}}`, codeMsgBodyNoArray}, {with(`{}`), codeBadElement},
			{with(`{"MsgType":"TIMOtherElem","MsgContent":{}}`), codeBadElement}, {with(`{"MsgType":"TIMTextElem","MsgContent":{}}`), codeBadElement}, {with(`{"MsgType":"TIMTextElem","MsgContent":{"Text":1}}`), codeBadElement}, {with(`{"MsgType":"TIMFaceElem","MsgContent":{"Index":"x"}}`), codeBadElement}, {with(`{"MsgType":"TIMFaceElem","MsgContent":{"Index":"-1.5e3"}}`), 0}, {with(`{"MsgType":"TIMFaceElem","MsgContent":{"Index":"NaN"}}`), codeBadElement},
			{with(`{"MsgType":"TIMLocationElem","MsgContent":{"Desc":null,"Latitude":"1.5","Longitude":2},"Other":1}`), 0}, {with(`{"MsgType":"TIMCustomElem","MsgContent":{"Data":"x","Other":[1]}}`), 0},
			{with(`{"MsgType":"TIMImageElem","MsgContent":{"UUID":"x","ImageInfoArray":[{"Type":1,"URL":"x"}]}}`), 0}, {with(`{"MsgType":"TIMImageElem","MsgContent":{"UUID":"x","ImageInfoArray":[{"Type":1}]}}`), codeBadElement},
			{with(`{"MsgType":"TIMSoundElem","MsgContent":{"Url":"x"}}`), 0}, {with(`{"MsgType":"TIMSoundElem","MsgContent":{"UUID":"x"}}`), 0}, {with(`{"MsgType":"TIMSoundElem","MsgContent":{"Url":null,"UUID":null}}`), codeBadElement}, {with(`{"MsgType":"TIMSoundElem","MsgContent":{}}`), codeBadElement},
			{with(`{"MsgType":"TIMFileElem","MsgContent":{"Url":"x","UUID":null}}`), 0}, {with(`{"MsgType":"TIMFileElem","MsgContent":{"FileName":"x"}}`), codeBadElement},
			{with(`{"MsgType":"TIMVideoFileElem","MsgContent":{"VideoUrl":"x","ThumbUUID":"y"}}`), 0}, {with(`{"MsgType":"TIMVideoFileElem","MsgContent":{"VideoUrl":"x","VideoUUID":"x"}}`), codeBadElement}, {with(`{"MsgType":"TIMVideoFileElem","MsgContent":{"ThumbUrl":"x"}}`), codeBadElement},
		}},
		{[]string{"timpush/revoke"}, []body{{`{"TaskId":1}`, codePushBadJSON}, {`{"TaskId":""}`, codePushBadJSON}, {`{}`, codePushBadJSON}}},
		{[]string{"timpush/all_member_push_statistics"}, []body{{`{"TaskID":"x","StartTime":1,"EndTime":"2"}`, 0}, {`{"TaskId":["x"]}`, 0}, {`{"TaskID":[]}`, codePushBadJSON}, {`{"TaskID":["1","2","3","4","5","6"]}`, codePushBadJSON},
			{`{"TaskID":["x"],"EndTime":"x"}`, codePushBadJSON}, {`{"StartTime":1}`, codePushBadJSON}}},
		{[]string{"im_open_login_svc/account_import", "im_open_login_svc/kick"}, []body{{`{"Identifier":"u1"}`, 0}, {`{}`, codeBadParameter}, {`{"UserID":1}`, codeNotString}, {`{"UserID":""}`, codeBadParameter}, {`{"UserID":` + long + `}`, codeBadParameter}}},
		{[]string{"im_open_login_svc/multiaccount_import"}, []body{{`{"AccountList":[{"UserID":"u1"},{"Identifier":"u2"}]}`, 0}, {`{"Accounts":["u1","",{"UserID":"u2"}]}`, 0}, {`{"Accounts":[]}`, codeBadParameter}, {`{"Accounts":[1]}`, codeNotString}, {`{"AccountList":[{"UserID":"u1"},{"UserID":1}]}`, codeNotString},
			{`{"Accounts":[` + users(101, `"u1"`) + `]}`, codeBadParameter}}},
		{[]string{"im_open_login_svc/account_check"}, []body{{`{"CheckItem":[{"Identifier":"u1"}]}`, 0}, {`{"CheckItem":["u1"]}`, codeBadParameter}, {`{"CheckItem":[]}`, codeBadParameter}, {`{"CheckItem":[` + users(101, `{"UserID":"u1"}`) + `]}`, codeBadParameter}}},
		{[]string{"im_open_login_svc/account_delete"}, []body{{`{"DeleteItem":[{"UserID":"nobody"}]}`, 0}, {`{"DeleteItem":[]}`, codeBadParameter}, {`{"DeleteItem":[` + users(101, `{"UserID":"x"}`) + `]}`, codeBadParameter}}},
		{[]string{"openim/query_online_status", "openim/querystate"}, []body{{`{"To_Account":"u1"}`, 0}, {`{"To_Account":[` + users(500, `"u1"`) + `],"IsNeedDetail":0}`, 0}, {`{"To_Account":[` + users(501, `"u1"`) + `]}`, codeBadParameter}, {`{}`, codeBadParameter}, {`{"To_Account":[1]}`, codeNotString}, {`{"To_Account":[""]}`, codeBadParameter}}},
	} {
		for _, name := range of.names {
			takes, says := d.of(t, "/v4/"+name, openapiRequest), d.of(t, "/v4/"+name, openapiResponse)
			for _, b := range of.bodies {
				out := s.call(name, b.text)
				if out["ErrorCode"] != float64(b.code) {
					t.Errorf("%s %.200s: %v, want code %d", name, b.text, out, b.code)
				}
				if err := openapiCheck(takes, []byte(b.text)); (err == nil) != (b.code == 0) {
					t.Errorf("%s %.200s: code %d, and by the description: %v", name, b.text, b.code, err)
				}
				openapiHolds(t, name, says, openapiText(t, out))
			}
		}
	}
}

// TestOpenAPIServed: the description is to be had by GET alone.
func TestOpenAPIServed(t *testing.T) {
	t.Parallel()
	s := openapiScene(t)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		w := httptest.NewRecorder()
		s.api.ServeHTTP(w, httptest.NewRequest(method, "/openapi.json", nil))
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != openapiJSON || !bytes.Equal(w.Body.Bytes(), openAPI) {
			t.Errorf("%s: status %d, %v, %.100s", method, w.Code, w.Header(), w.Body) // of HEAD the server sends no body
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		out := s.send(method, "/openapi.json", "{}")
		if out["ErrorCode"] != float64(codeBadHTTP) {
			t.Errorf("%s: %v", method, out)
		}
		openapiHolds(t, method, openapiRead(t).compile(t, "/components/schemas/Envelope"), openapiText(t, out))
	}
}
