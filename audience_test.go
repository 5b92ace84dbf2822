package fanfare

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/fanfare-im/fanfare/store"
)

var audienceLimits = Limits{TagBytes: 50, ValueBytes: 50, NameBytes: 50}

func sameExpr(a, b *store.Expr) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Op == b.Op && a.Name == b.Name && a.Value == b.Value && a.High == b.High && a.PPM == b.PPM && a.Days == b.Days &&
		slices.Equal(a.IDs, b.IDs) && slices.EqualFunc(a.Args, b.Args, sameExpr)
}

func TestParseAudience(t *testing.T) {
	t.Parallel()
	a, b, c := Tag("a"), Tag("b"), Tag("c")
	for _, tt := range []struct {
		text string
		want Audience
		// canonical is the String; empty where it is the text.
		canonical string
	}{
		{"all", All(), ""},
		{" ALL\n", All(), "all"},
		{`tag:"stock A" or tag:vip`, Tag("stock A").Or(Tag("vip")), `tag:"stock A" or tag:"vip"`},
		{`attr.tier = "platinum" and attr.city = "Shenzhen" and not tag:"muted"`,
			Attr("tier", "platinum").And(Attr("city", "Shenzhen"), Tag("muted").Not()), ""},
		{`attr."home town" = "x"`, Attr("home town", "x"), ""},
		{`attr.tier in ("gold", platinum)`, Attr("tier", "gold").Or(Attr("tier", "platinum")),
			`attr.tier = "gold" or attr.tier = "platinum"`},
		{`attr.tier in (gold)`, Attr("tier", "gold"), `attr.tier = "gold"`},
		{`attr.tier in (gold, platinum) and tag:a`, Attr("tier", "gold").Or(Attr("tier", "platinum")).And(a),
			`(attr.tier = "gold" or attr.tier = "platinum") and tag:"a"`},
		{`not attr.tier in (gold, platinum)`, Attr("tier", "gold").Or(Attr("tier", "platinum")).Not(),
			`not (attr.tier = "gold" or attr.tier = "platinum")`},
		{`attr.tier != "gold"`, Attr("tier", "gold").Not(), ""},
		{`not attr.tier = gold`, Attr("tier", "gold").Not(), `attr.tier != "gold"`},
		{`not attr.tier!=gold`, Attr("tier", "gold"), `attr.tier = "gold"`},
		{`attr.tier="x"and attr.b=y`, Attr("tier", "x").And(Attr("b", "y")), `attr.tier = "x" and attr.b = "y"`},
		{`attr.a.b-c = "d.e-f"`, Attr("a.b-c", "d.e-f"), ""},
		{`attr . tier = 5`, Attr("tier", "5"), `attr.tier = "5"`},
		{`attr."and" = "or"`, Attr("and", "or"), ""},
		{`attr."" = ""`, Attr("", ""), ""},
		{`user:"id"`, Users("id"), ""},
		{`user in ("b", a, "b")`, Users("a", "b"), `user in ("a", "b")`},
		{`user in ()`, Users(), ""},
		{`not user in ()`, Users().Not(), ""},
		{`platform:apns`, Platform("apns"), ""},
		{`platform:"my phone"`, Platform("my phone"), ""},
		{`platform:"IN"`, Platform("IN"), ""},
		{`sample(10%, "salt")`, Sample(10, "salt"), ""},
		{`sample ( 0.0001 % , s )`, Sample(0.0001, "s"), `sample(0.0001%, "s")`},
		{`sample(33.33333%, "")`, Sample(33.3333, ""), `sample(33.3333%, "")`},
		{`sample(100%, "")`, Sample(100, ""), ""},
		{`sample(0.0%, "")`, Sample(0, ""), `sample(0%, "")`},
		{`attr.age >= 18 and attr.age < 65`, AttrAtLeast("age", "18").And(AttrLess("age", "65")), ""},
		{`attr.age>=18 and attr.age<=x`, AttrAtLeast("age", "18").And(AttrAtMost("age", "x")), `attr.age >= 18 and attr.age <= "x"`},
		{`attr."a b">-2.50`, AttrMore("a b", "-2.50"), `attr."a b" > -2.50`},
		{`attr.t < "-1"`, AttrLess("t", "-1"), `attr.t < -1`},
		{`attr.t > "- 1" or attr.t > "5 "`, AttrMore("t", "- 1").Or(AttrMore("t", "5 ")), ""},
		{`attr.t = -5 and attr.t != -6`, Attr("t", "-5").And(Attr("t", "-6").Not()), `attr.t = "-5" and attr.t != "-6"`},
		{`attr.t in (-5, 6)`, Attr("t", "-5").Or(Attr("t", "6")), `attr.t = "-5" or attr.t = "6"`},
		{`not attr.age > 5`, AttrMore("age", "5").Not(), ""},
		{`attr.age between 18 and 30 and tag:a`, AttrBetween("age", "18", "30").And(a), `attr.age between 18 and 30 and tag:"a"`},
		{`attr.born BETWEEN 1990-01-01 AND "1999-12-31T00:00:00Z"`, AttrBetween("born", "1990-01-01", "1999-12-31T00:00:00Z"),
			`attr.born between 1990-01-01 and "1999-12-31T00:00:00Z"`},
		{`attr.city exists`, HasAttr("city"), ""},
		{`not attr.city Exists or tag:a`, HasAttr("city").Not().Or(a), `not attr.city exists or tag:"a"`},
		{`attr.between between 1 and 2`, AttrBetween("between", "1", "2"), ""},
		{`seen within 7 days`, SeenWithin(7), ""},
		{`SEEN Within 1 Day and registered within 3650days`, SeenWithin(1).And(RegisteredWithin(3650)), `seen within 1 day and registered within 3650 days`},
		{`registered since 2026-01-01`, RegisteredSince(time.Date(2026, 1, 1, 23, 0, 0, 0, time.UTC)), ""},
		{`registered since "2026-01-01T01:00:00+02:00"`, RegisteredSince(time.Date(2025, 12, 31, 0, 0, 0, 0, time.UTC)), `registered since 2025-12-31`},
		{`registered since 1970-01-01`, RegisteredSince(time.Time{}), ""},
		{`registered since 9999-12-31`, RegisteredSince(time.Unix(1<<40, 0)), ""},
		{`language:ZH_hant-tw`, Language("zh-Hant-TW"), `language:zh-Hant-TW`},
		{`language:"x y" or language:zh`, Language("x y").Or(Language("ZH")), ""},
		{`timezone:"Asia/Shanghai"`, TimeZone("Asia/Shanghai"), ""},
		{`timezone:UTC`, TimeZone("UTC"), `timezone:"UTC"`},
		{`saved:vips and not saved:"no one"`, Saved("vips").And(Saved("no one").Not()), `saved:"vips" and not saved:"no one"`},
		// Precedence.
		{"tag:a or tag:b and tag:c", a.Or(b.And(c)), `tag:"a" or tag:"b" and tag:"c"`},
		{"tag:a and tag:b or tag:c", a.And(b).Or(c), `tag:"a" and tag:"b" or tag:"c"`},
		{"(tag:a or tag:b) and tag:c", a.Or(b).And(c), `(tag:"a" or tag:"b") and tag:"c"`},
		{"tag:a and (tag:b and tag:c)", a.And(b, c), `tag:"a" and tag:"b" and tag:"c"`},
		{"not tag:a and tag:b", a.Not().And(b), `not tag:"a" and tag:"b"`},
		{"not (tag:a and tag:b)", a.And(b).Not(), `not (tag:"a" and tag:"b")`},
		{"NOT Not tag:a Or nOt((tag:b))", a.Or(b.Not()), `tag:"a" or not tag:"b"`},
		// Strings.
		{`tag:"\"\\\n\r\t\u00e9\u4E2D\U0001F600"`, Tag("\"\\\n\r\té中😀"), `tag:"\"\\\n\r\té中😀"`},
		{"tag:\"a\tb\"", Tag("a\tb"), `tag:"a\tb"`},
		{`tag:"\u0000\u202e\u00a0"`, Tag("\x00\u202e\u00a0"), ""},
		{`tag:"\U000e0001"`, Tag("\U000e0001"), ""},
		{"tag:\"\uFFFD\"", Tag("\uFFFD"), ""},
		{`tag:"(a or b)"`, Tag("(a or b)"), ""},
		// Beyond ASCII.
		{`attr.城市 = 深圳 and tag:VIP客户`, Attr("城市", "深圳").And(Tag("VIP客户")), `attr.城市 = "深圳" and tag:"VIP客户"`},
		{"all\u3000and\u3000tag:हिन्दी", All().And(Tag("हिन्दी")), `all and tag:"हिन्दी"`},
		{"tag:İn or tag:andré", Tag("İn").Or(Tag("andré")), `tag:"İn" or tag:"andré"`},
	} {
		got, err := ParseAudience(tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if !sameExpr(got.expr, tt.want.expr) {
			t.Errorf("%s: is %s, want %s", tt.text, got, tt.want)
		}
		want := tt.canonical
		if want == "" {
			want = tt.text
		}
		if got.String() != want {
			t.Errorf("%s: String is %s, want %s", tt.text, got, want)
		}
		checkAudienceForms(t, got)
	}
}

func TestParseAudienceErrors(t *testing.T) {
	t.Parallel()
	const aTerm = `a term (all, tag:"…", attr.name = "…", attr.name >= …, user:"…", platform:name, language:name, timezone:"…", ` +
		`seen within 7 days, registered since 2026-01-31, saved:"…" or sample(10%, "…")), "not" or "("`
	const aComparison = `"=", "!=", "<", "<=", ">", ">=", "in", "between" or "exists"`
	const escapes = `unknown escape; there are \" \\ \n \r \t \uXXXX and \UXXXXXXXX`
	for _, tt := range []struct {
		text    string
		column  int
		message string
	}{
		{"", 1, "expected " + aTerm},
		{"  ", 3, "expected " + aTerm},
		{"vip", 1, "expected " + aTerm + `, found "vip"`},
		{"tags:vip", 1, "expected " + aTerm + `, found "tags"`},
		{"İN", 1, "expected " + aTerm + `, found "İN"`},
		{"and", 1, "expected " + aTerm + `, found the keyword "and"`},
		{"tag:a and", 10, "expected " + aTerm + ` after "tag:a and"`},
		{"tag:a and or", 11, "expected " + aTerm + ` after "tag:a and", found the keyword "or"`},
		{"not", 4, "expected " + aTerm + ` after "not"`},
		{"tag:a or )", 10, "expected " + aTerm + ` after "tag:a or", found ")"`},
		{"attr.tier =", 12, `expected a quoted string or a word after "attr.tier ="`},
		{"attr.tier = and tag:b", 13, `expected a quoted string or a word after "attr.tier =", found the keyword "and"`},
		{"tag: and tag:b", 6, `expected a quoted string or a word after "tag:", found the keyword "and"`},
		{"attr.tier", 10, "expected " + aComparison + ` after "attr.tier"`},
		{"attr.tier == x", 12, `expected a quoted string or a word after "attr.tier =", found "="`},
		{"attr.tier ~ 5", 11, "expected " + aComparison + ` after "attr.tier", found "~"`},
		{`attr."home town" is x`, 18, "expected " + aComparison + " after `attr.\"home town\"`, found \"is\""},
		{"attr.age >", 11, `expected a quoted string or a word after "attr.age >"`},
		{"attr.age >=< 5", 12, `expected a quoted string or a word after "attr.age >=", found "<"`},
		{"attr.age > -x", 12, `expected a quoted string or a word after "attr.age >", found "-"`},
		{"attr.age > -5@", 14, `"@" cannot stand in a word; write the whole in quotes`},
		{"attr.age between 1", 19, `expected "and" and the upper bound after "attr.age between 1"`},
		{"attr.age between 1 or 2", 20, `expected "and" and the upper bound after "attr.age between 1", found the keyword "or"`},
		{"attr.age between 1 and", 23, `expected a quoted string or a word after "attr.age between 1 and"`},
		{"seen", 5, `expected "within" after "seen"`},
		{"seen since 2026-01-01", 6, `expected "within" after "seen", found "since"`},
		{"seen within days", 13, `expected a number of days from 1 to 3650 after "seen within", found "days"`},
		{"seen within 0 days", 13, `expected a number of days from 1 to 3650 after "seen within", found "0"`},
		{"seen within 3651 days", 13, `expected a number of days from 1 to 3650 after "seen within", found "3651"`},
		{"seen within 99999999999999999999 days", 13, `expected a number of days from 1 to 3650 after "seen within", found "99999999999999999999"`},
		{"seen within 7 hours", 15, `expected "days" after "seen within 7", found "hours"`},
		{"registered 2026-01-01", 12, `expected "since" or "within" after "registered", found "2026-01-01"`},
		{"registered since yesterday", 18, "expected a date such as 2026-01-31, from 1970 on"},
		{"registered since 2026-13-01", 18, "expected a date such as 2026-01-31, from 1970 on"},
		{"registered since 1969-12-31", 18, "expected a date such as 2026-01-31, from 1970 on"},
		{"registered since", 17, `expected a quoted string or a word after "registered since"`},
		{"language zh", 10, `expected ":" after "language", found "zh"`},
		{"timezone:Asia/Shanghai", 14, `"/" cannot stand in a word; write the whole in quotes`},
		{"saved:", 7, `expected a quoted string or a word after "saved:"`},
		{"attr:tier = x", 5, `expected "." and the attribute's name after "attr", found ":"`},
		{"attr.tier in gold", 14, `expected "(" after "attr.tier in", found "gold"`},
		{"attr.tier in ()", 15, "expected at least one value in the list"},
		{"attr.tier in (a b)", 17, `expected "," or ")" after "attr.tier in (a", found "b"`},
		{"attr.tier in (a,)", 17, `expected a quoted string or a word after "attr.tier in (a,", found ")"`},
		{"tag vip", 5, `expected ":" after "tag", found "vip"`},
		{"tag:stock A", 11, `expected "and", "or" or the end of the text after "tag:stock", found "A"`},
		{"tag:a)", 6, `expected "and", "or" or the end of the text after "tag:a", found ")"`},
		{"(tag:a", 7, `expected "and", "or" or ")" to close column 1 after "tag:a"`},
		{"tag:a and (tag:b tag:c)", 18, `expected "and", "or" or ")" to close column 11 after "tag:b", found "tag"`},
		{"user alice", 6, `expected ":" or "in" after "user", found "alice"`},
		{"user:a@example.com", 7, `"@" cannot stand in a word; write the whole in quotes`},
		{`tag:vip"x"`, 8, "`\"` cannot stand in a word; write the whole in quotes"},
		{"tag:-5", 5, `expected a quoted string or a word after "tag:", found "-"`},
		{`sample(101%, "s")`, 8, `expected a number from 0 to 100 after "sample(", found "101"`},
		{`sample(-1%, "s")`, 8, `expected a number from 0 to 100 after "sample(", found "-"`},
		{`sample(1.%, "s")`, 8, `expected a number from 0 to 100 after "sample(", found "1"`},
		{`sample(10, "s")`, 10, `expected "%" after "sample(10", found ","`},
		{`sample(10%)`, 11, `expected "," and the salt after "sample(10%", found ")"`},
		{`sample(10%, "s"`, 16, "expected \")\" after `sample(10%, \"s\"`"},
		{"sample 10%", 8, `expected "(" after "sample", found "10"`},
		{`tag:"stock A`, 5, "the quoted string that starts here is not closed"},
		{"tag:\"stock\nA\"", 5, "the quoted string that starts here is not closed"},
		{`tag:"a\x41"`, 7, escapes},
		{`tag:"a\u12"`, 7, escapes},
		{`tag:"\ud83d\ude00"`, 6, escapes},
		{`tag:"\UFFFFFFFF"`, 6, escapes},
		{`tag:"\`, 6, escapes},
		{"tag:a\xff", 6, "the text is not valid UTF-8 here"},
		// Columns are characters, not bytes.
		{"tag:中文 and tag:", 16, `expected a quoted string or a word after "tag:"`},
		{"tag:\"😀\" x", 9, "expected \"and\", \"or\" or the end of the text after `tag:\"😀\"`, found \"x\""},
		{"tag:中\xff", 6, "the text is not valid UTF-8 here"},
		// What is shown stays short.
		{"tag:" + strings.Repeat("a", 100) + " " + strings.Repeat("b", 100), 106,
			`expected "and", "or" or the end of the text after "…` + strings.Repeat("a", 40) + `", found "` + strings.Repeat("b", 40) + `…"`},
	} {
		a, err := ParseAudience(tt.text)
		var wrong *ParseError
		if !errors.As(err, &wrong) {
			t.Errorf("%q: got %v, %v; want a ParseError", tt.text, a, err)
			continue
		}
		if !a.IsZero() {
			t.Errorf("%q: an audience beside the error: %s", tt.text, a)
		}
		if wrong.Column != tt.column || wrong.Message != tt.message {
			t.Errorf("%q:\n got column %d: %s\nwant column %d: %s", tt.text, wrong.Column, wrong.Message, tt.column, tt.message)
		}
		checkParseError(t, tt.text, wrong)
	}
	err := error(&ParseError{Column: 14, Offset: 13, Message: `expected ":"`})
	if got, want := err.Error(), `audience: column 14: expected ":"`; got != want {
		t.Errorf("Error is %q, want %q", got, want)
	}
}

// checkParseError checks that column and offset say the same place.
func checkParseError(t *testing.T, text string, e *ParseError) {
	t.Helper()
	if e.Offset < 0 || e.Offset > len(text) || e.Column != utf8.RuneCountInString(text[:e.Offset])+1 {
		t.Errorf("%q: column %d and offset %d differ", text, e.Column, e.Offset)
	}
}

func TestParseAudienceBounds(t *testing.T) {
	t.Parallel()
	deepest := strings.Repeat("not(", store.MaxExprDepth/2) + "all" + strings.Repeat(")", store.MaxExprDepth/2)
	if _, err := ParseAudience(deepest); err != nil {
		t.Errorf("nested %d deep: %v", store.MaxExprDepth, err)
	}
	side := "all" + strings.Repeat(" or (all) or not all", 2*store.MaxExprDepth)
	if _, err := ParseAudience(side); err != nil {
		t.Errorf("side by side: %v", err)
	}
	for _, tt := range []struct{ name, text, what string }{
		{"text", "all" + strings.Repeat(" ", maxAudienceBytes), "text of an audience in bytes"},
		{"parentheses", strings.Repeat("(", maxAudienceBytes), "nesting of an audience"},
		{"nots", strings.Repeat("not ", maxAudienceBytes/4), "nesting of an audience"},
		{"both in turn", strings.Repeat("all or tag:a and (", store.MaxExprDepth-1) + "all" + strings.Repeat(")", store.MaxExprDepth-1), "nesting of an audience"},
		{"terms", "all" + strings.Repeat(" or all", store.MaxExprNodes), "terms of an audience"},
		{"users", "user in (a" + numbered(store.MaxExprUsers, func(s string) string { return "," + s }) + ")", "explicit users in an audience"},
	} {
		_, err := ParseAudience(tt.text)
		var limit *LimitError
		if !errors.As(err, &limit) || limit.What != tt.what || limit.Got <= limit.Limit {
			t.Errorf("%s: got %v, want a LimitError of %s", tt.name, err, tt.what)
		}
	}
}

// numbered joins the form of the words n0, n1, and so on.
func numbered(n int, form func(string) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(form("n" + strconv.Itoa(i)))
	}
	return b.String()
}

func TestAudienceNormalForm(t *testing.T) {
	t.Parallel()
	a, b, c, d := Tag("a"), Tag("b"), Tag("c"), Tag("d")
	for _, tt := range []struct{ got, want Audience }{
		{a.And(b).And(c.And(d)), a.And(b, c, d)},
		{a.Or(b.Or(c), d), a.Or(b, c, d)},
		{a.And(), a},
		{a.Or(), a},
		{a.Not().Not(), a},
		{a.And(b).Not().Not().And(c), a.And(b, c)},
		{Users("b", "a", "b"), Users("a", "b")},
	} {
		if !sameExpr(tt.got.expr, tt.want.expr) {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}

// A combination must not write into the arguments of an audience that others hold.
func TestAudienceIsImmutable(t *testing.T) {
	t.Parallel()
	ids := []string{"b", "a"}
	users := Users(ids...)
	ids[0] = "z"
	if got := users.String(); got != `user in ("a", "b")` {
		t.Errorf("changing the slice changed the audience: %s", got)
	}
	if !slices.Equal(ids, []string{"z", "a"}) {
		t.Errorf("Users changed its argument: %q", ids)
	}
	base := Tag("a").Or(Tag("b"), Tag("c"))
	x, y := base.Or(Tag("x")), base.Or(Tag("y"))
	if x.String() != base.String()+` or tag:"x"` || y.String() != base.String()+` or tag:"y"` {
		t.Errorf("two combinations of one audience: %s; %s", x, y)
	}
}

func TestZeroAudience(t *testing.T) {
	t.Parallel()
	var zero Audience
	if All().IsZero() || All().Not().IsZero() {
		t.Error("IsZero of an audience that is not")
	}
	for name, a := range map[string]Audience{
		"itself": zero, "Not": zero.Not(), "And": zero.And(All()), "Or": zero.Or(All()),
		"of And": All().And(Tag("a"), zero), "of Or": All().Or(zero), "within": All().Or(Tag("a").And(zero).Not()),
	} {
		if !a.IsZero() || a.String() != "" {
			t.Errorf("%s: %q is not zero", name, a)
		}
		if err := a.validate(audienceLimits); !errors.Is(err, ErrNoAudience) {
			t.Errorf("%s: validate: %v", name, err)
		}
		if b, err := json.Marshal(a); !errors.Is(err, ErrNoAudience) {
			t.Errorf("%s: JSON %s, %v", name, b, err)
		}
		if b, err := a.MarshalText(); !errors.Is(err, ErrNoAudience) {
			t.Errorf("%s: text %s, %v", name, b, err)
		}
	}
}

func TestAudienceValidate(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("é", n/2) + strings.Repeat("x", n%2) }
	deep := All()
	for range store.MaxExprDepth / 2 {
		deep = deep.And(Tag("a")).Or(Tag("b"))
	}
	wide := slices.Repeat([]Audience{Tag("a")}, store.MaxExprNodes)
	doubled := Tag("a")
	for range 200 { // 2 to the 200 terms, sharing their nodes
		doubled = doubled.And(Tag("b")).Or(doubled.And(Tag("c")))
	}
	many := make([]string, store.MaxExprUsers+1)
	for i := range many {
		many[i] = strconv.Itoa(i)
	}
	for _, tt := range []struct {
		name string
		a    Audience
		want *LimitError // nil: valid
	}{
		{"tag", Tag(long(50)), nil},
		{"long tag", Tag(long(51)), &LimitError{What: "tag in bytes", Limit: 50, Got: 51}},
		{"no tag", Tag(""), &LimitError{What: "tag in bytes, at least", Limit: 1, Got: 0}},
		{"attribute", Attr(long(50), long(50)), nil},
		{"long name", Attr(long(51), "x"), &LimitError{What: "attribute name in bytes", Limit: 50, Got: 51}},
		{"no name", Attr("", "x"), &LimitError{What: "attribute name in bytes, at least", Limit: 1, Got: 0}},
		{"long value", Attr("x", long(51)), &LimitError{What: "attribute value in bytes", Limit: 50, Got: 51}},
		{"no value", Attr("x", ""), &LimitError{What: "attribute value in bytes, at least", Limit: 1, Got: 0}},
		{"users", Users(long(255), "a"), nil},
		{"no users", Users(), nil},
		{"long user", Users("a", long(256)), &LimitError{What: "user ID in bytes", Limit: 255, Got: 256}},
		{"empty user", Users("", "a"), &LimitError{What: "user ID in bytes, at least", Limit: 1, Got: 0}},
		{"many users", Users(many[:store.MaxExprUsers]...), nil},
		{"too many users", Users(many...), &LimitError{What: "explicit users in an audience", Limit: store.MaxExprUsers, Got: store.MaxExprUsers + 1}},
		{"platform", Platform(long(50)), nil},
		{"long platform", Platform(long(51)), &LimitError{What: "platform in bytes", Limit: 50, Got: 51}},
		{"no platform", Platform(""), &LimitError{What: "platform in bytes, at least", Limit: 1, Got: 0}},
		{"sample", Sample(100, long(255)), nil},
		{"sample of nobody", Sample(0, ""), nil},
		{"long salt", Sample(1, long(256)), &LimitError{What: "salt of a sample in bytes", Limit: 255, Got: 256}},
		{"sample above", Sample(100.00000001, ""), &LimitError{What: "parts per million of a sample, from 0", Limit: 1_000_000, Got: 1_000_001}},
		{"sample far above", Sample(math.Inf(1), ""), &LimitError{What: "parts per million of a sample, from 0", Limit: 1_000_000, Got: math.MaxInt32}},
		{"sample below", Sample(-5, ""), &LimitError{What: "parts per million of a sample, from 0", Limit: 1_000_000, Got: -50_000}},
		{"sample just below", Sample(-1e-300, ""), &LimitError{What: "parts per million of a sample, from 0", Limit: 1_000_000, Got: -1}},
		{"sample far below", Sample(math.Inf(-1), ""), &LimitError{What: "parts per million of a sample, from 0", Limit: 1_000_000, Got: math.MinInt32}},
		{"sample of NaN", Sample(math.NaN(), ""), &LimitError{What: "parts per million of a sample, from 0", Limit: 1_000_000, Got: math.MinInt32}},
		{"comparison", AttrBetween(long(50), long(50), long(50)), nil},
		{"long upper bound", AttrBetween("x", "1", long(51)), &LimitError{What: "attribute value in bytes", Limit: 50, Got: 51}},
		{"no bound", AttrLess("x", ""), &LimitError{What: "attribute value in bytes, at least", Limit: 1, Got: 0}},
		{"long name of any", HasAttr(long(51)), &LimitError{What: "attribute name in bytes", Limit: 50, Got: 51}},
		{"language", Language(long(255)), nil},
		{"long language", Language(long(256)), &LimitError{What: "language in bytes", Limit: 255, Got: 256}},
		{"no time zone", TimeZone(""), &LimitError{What: "time zone in bytes, at least", Limit: 1, Got: 0}},
		{"long saved", Saved(long(256)), &LimitError{What: "name of an audience in bytes", Limit: 255, Got: 256}},
		{"days", SeenWithin(1).Or(RegisteredWithin(store.MaxDays)), nil},
		{"no days", SeenWithin(0), &LimitError{What: "days of an audience, at least", Limit: 1, Got: 0}},
		{"days below", RegisteredWithin(math.MinInt64), &LimitError{What: "days of an audience, at least", Limit: 1, Got: math.MinInt32}},
		{"many days", SeenWithin(store.MaxDays + 1), &LimitError{What: "days of an audience", Limit: store.MaxDays, Got: store.MaxDays + 1}},
		{"wrong within", All().And(Tag("a").Or(Tag(long(51))).Not()), &LimitError{What: "tag in bytes", Limit: 50, Got: 51}},
		{"deep", deep, &LimitError{What: "nesting of an audience", Limit: store.MaxExprDepth, Got: store.MaxExprDepth + 1}},
		{"wide", All().Or(wide[2:]...), nil},
		{"too wide", All().Or(wide...), &LimitError{What: "terms of an audience", Limit: store.MaxExprNodes, Got: store.MaxExprNodes + 1}},
		{"doubled", doubled, &LimitError{What: "nesting of an audience", Limit: store.MaxExprDepth, Got: store.MaxExprDepth + 1}},
	} {
		err := tt.a.validate(audienceLimits)
		var limit *LimitError
		switch {
		case tt.want == nil:
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		case !errors.As(err, &limit) || *limit != *tt.want:
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	for _, a := range []Audience{
		Tag("\xff"), Attr("\xff", "x"), Attr("x", "\xff"), Users("\xff"), Platform("\xff"), Sample(1, "\xff"),
		AttrMore("\xff", "1"), AttrMore("x", "\xff"), AttrBetween("x", "1", "\xff"), HasAttr("\xff"), Language("\xff"), TimeZone("\xff"), Saved("\xff"),
	} {
		if err := a.validate(audienceLimits); !errors.Is(err, ErrInvalidText) {
			t.Errorf("%s: validate: %v", a, err)
		}
		if _, err := json.Marshal(a); !errors.Is(err, ErrInvalidText) {
			t.Errorf("%s: JSON: %v", a, err)
		}
		if b, err := ParseAudience(a.String()); err == nil {
			t.Errorf("%s parses, as %s", a, b)
		}
	}
}

func TestAudienceJSON(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		json string
		want Audience
	}{
		{`{"all":true}`, All()},
		{`{"tag":"x"}`, Tag("x")},
		{`{"tag":""}`, Tag("")},
		{`{"attr":{"name":"tier","value":"platinum"}}`, Attr("tier", "platinum")},
		{`{"users":["a","b"]}`, Users("a", "b")},
		{`{"users":[]}`, Users()},
		{`{"platform":"apns"}`, Platform("apns")},
		{`{"sample":{"percent":10,"salt":"s"}}`, Sample(10, "s")},
		{`{"sample":{"percent":0.0001,"salt":""}}`, Sample(0.0001, "")},
		{`{"and":[{"tag":"a"},{"or":[{"tag":"b"},{"tag":"c"}]}]}`, Tag("a").And(Tag("b").Or(Tag("c")))},
		{`{"not":{"and":[{"tag":"a"},{"not":{"tag":"b"}}]}}`, Tag("a").And(Tag("b").Not()).Not()},
		{`{"compare":{"name":"age","op":"lt","value":"18"}}`, AttrLess("age", "18")},
		{`{"compare":{"name":"age","op":"le","value":"18"}}`, AttrAtMost("age", "18")},
		{`{"compare":{"name":"age","op":"gt","value":"18"}}`, AttrMore("age", "18")},
		{`{"compare":{"name":"age","op":"ge","value":"18"}}`, AttrAtLeast("age", "18")},
		{`{"between":{"name":"age","low":"18","high":"30"}}`, AttrBetween("age", "18", "30")},
		{`{"exists":"city"}`, HasAttr("city")},
		{`{"language":"zh-Hant"}`, Language("zh_HANT")},
		{`{"timezone":"Asia/Shanghai"}`, TimeZone("Asia/Shanghai")},
		{`{"seen_within":7}`, SeenWithin(7)},
		{`{"registered_within":3650}`, RegisteredWithin(3650)},
		{`{"registered_since":"2026-01-01"}`, RegisteredSince(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))},
		{`{"saved":"vips"}`, Saved("vips")},
		{`{"tag":"\"\\\n\u0000中😀�"}`, Tag("\"\\\n\x00中😀\uFFFD")},
	} {
		got, err := json.Marshal(tt.want)
		if err != nil || string(got) != tt.json {
			t.Errorf("%s: marshals as %s, %v; want %s", tt.want, got, err, tt.json)
		}
		var back Audience
		if err := json.Unmarshal([]byte(tt.json), &back); err != nil || !sameExpr(back.expr, tt.want.expr) {
			t.Errorf("%s: is %s, %v; want %s", tt.json, back, err, tt.want)
		}
	}
	for _, tt := range []struct {
		json string
		want Audience
	}{
		{" {\"all\" : true}\n", All()},
		{`{"and":[{"tag":"a"}]}`, Tag("a")},
		{`{"and":[{"tag":"a"},{"and":[{"tag":"b"},{"tag":"c"}]}]}`, Tag("a").And(Tag("b"), Tag("c"))},
		{`{"not":{"not":{"tag":"a"}}}`, Tag("a")},
		{`{"users":["b","a","b"]}`, Users("a", "b")},
		{`{"sample":{"salt":"s","percent":1e1}}`, Sample(10, "s")},
		{`{"tag":"\ud83d\ude00\\ud83d"}`, Tag(`😀\ud83d`)},
		{`{"tag":"\ufffd"}`, Tag("\uFFFD")},
	} {
		var got Audience
		if err := got.UnmarshalJSON([]byte(tt.json)); err != nil || !sameExpr(got.expr, tt.want.expr) {
			t.Errorf("%s: is %s, %v; want %s", tt.json, got, err, tt.want)
		}
	}
}

func TestAudienceJSONErrors(t *testing.T) {
	t.Parallel()
	const keys = "all, tag, attr, compare, between, exists, users, platform, language, timezone, seen_within, registered_within, registered_since, saved, sample, and, or, not"
	const half = "not valid UTF-8, or half a surrogate pair"
	for _, tt := range []struct{ json, message string }{
		{``, "unexpected end of JSON input"},
		{`{"tag":"x"`, "unexpected end of JSON input"},
		{`{"tag":"x"} {}`, "invalid character '{' after top-level value"},
		{`{"tag":"x"}x`, "invalid character 'x' after top-level value"},
		{`{"and":[{"all":true},]}`, "invalid character ']' looking for beginning of value"},
		{`null`, "expected an object"},
		{`"all"`, "expected an object"},
		{`[]`, "expected an object"},
		{`{}`, "the object is empty, an audience has one key"},
		{`{"":1}`, `"": unknown key, expected ` + keys},
		{`{"Tag":"x"}`, `"Tag": unknown key, expected ` + keys},
		{`{"tag":"x","all":true}`, `"all": a second key beside "tag", an audience has one`},
		{`{"tag":"x","tag":"x"}`, `"tag": a second key beside "tag", an audience has one`},
		{`{"all":false}`, `"all": expected true`},
		{`{"all":null}`, `"all": expected true`},
		{`{"tag":1}`, `"tag": expected a string`},
		{`{"tag":null}`, `"tag": expected a string`},
		{`{"users":"a"}`, `"users": expected an array`},
		{`{"users":["a",2]}`, `"users[1]": expected a string`},
		{`{"attr":["a","b"]}`, `"attr": expected an object`},
		{`{"attr":{"name":"a"}}`, `"attr": "value" is missing`},
		{`{"attr":{"value":"a"}}`, `"attr": "name" is missing`},
		{`{"attr":{"name":"a","value":"b","x":1}}`, `"attr.x": unknown key, expected "name" and "value"`},
		{`{"attr":{"name":"a","name":"b","value":"c"}}`, `"attr.name": the key is there twice`},
		{`{"compare":{"name":"a","op":">","value":"b"}}`, `"compare.op": expected "lt", "le", "gt" or "ge"`},
		{`{"compare":{"name":"a","value":"b"}}`, `"compare": "op" is missing`},
		{`{"compare":{"name":"a","op":"lt","value":5}}`, `"compare.value": expected a string`},
		{`{"between":{"name":"a","from":"b"}}`, `"between.from": unknown key, expected "name", "low" and "high"`},
		{`{"exists":true}`, `"exists": expected a string`},
		{`{"seen_within":0}`, `"seen_within": expected a number of days from 1 to 3650`},
		{`{"seen_within":1.5}`, `"seen_within": expected a number of days from 1 to 3650`},
		{`{"seen_within":"7"}`, `"seen_within": expected a number of days from 1 to 3650`},
		{`{"registered_within":3651}`, `"registered_within": expected a number of days from 1 to 3650`},
		{`{"registered_since":"yesterday"}`, `"registered_since": expected a date such as 2026-01-31, from 1970 on`},
		{`{"registered_since":7}`, `"registered_since": expected a string`},
		{`{"sample":{"percent":10}}`, `"sample": "salt" is missing`},
		{`{"sample":{"percent":"10","salt":""}}`, `"sample.percent": expected a number from 0 to 100`},
		{`{"sample":{"percent":100.1,"salt":""}}`, `"sample.percent": expected a number from 0 to 100`},
		{`{"sample":{"percent":-1,"salt":""}}`, `"sample.percent": expected a number from 0 to 100`},
		{`{"sample":{"percent":1e999,"salt":""}}`, `"sample.percent": expected a number from 0 to 100`},
		{`{"and":[]}`, `"and": the array is empty, expected one audience or more`},
		{`{"or":[]}`, `"or": the array is empty, expected one audience or more`},
		{`{"or":{"tag":"a"}}`, `"or": expected an array`},
		{`{"not":[{"tag":"a"}]}`, `"not": expected an object`},
		{`{"and":[{"tag":"a"},{"not":{"or":[{"tag":"b"},{"tags":"c"}]}}]}`,
			`"and[1].not.or[1].tags": unknown key, expected ` + keys},
		{"{\"tag\":\"\xff\"}", half},
		{`{"tag":"\ud83d"}`, half},
		{`{"tag":"\ude00"}`, half},
		{`{"tag":"\ud83dx\ude00"}`, half},
		{`{"tag":"\ud83d\n\ude00"}`, half},
		{`{"tag":"\ud83d\ud83d\ude00"}`, half},
	} {
		a := Tag("before")
		err := a.UnmarshalJSON([]byte(tt.json))
		if err == nil || err.Error() != "audience JSON: "+tt.message {
			t.Errorf("%s:\n got %v\nwant audience JSON: %s", tt.json, err, tt.message)
		}
		if a.String() != `tag:"before"` {
			t.Errorf("%s: changed the audience to %s", tt.json, a)
		}
	}
	for _, tt := range []struct{ name, json, what string }{
		{"size", `{"all":true}` + strings.Repeat(" ", maxAudienceBytes), "JSON of an audience in bytes"},
		{"depth", strings.Repeat(`{"not":`, 5_000) + "1" + strings.Repeat("}", 5_000), "nesting of an audience"},
		{"terms", `{"or":[{"all":true}` + strings.Repeat(`,{"all":true}`, store.MaxExprNodes) + `]}`, "terms of an audience"},
		{"users", `{"users":["a"` + numbered(store.MaxExprUsers, func(s string) string { return `,"` + s + `"` }) + `]}`, "explicit users in an audience"},
	} {
		var a Audience
		err := a.UnmarshalJSON([]byte(tt.json))
		var limit *LimitError
		if !errors.As(err, &limit) || limit.What != tt.what {
			t.Errorf("%s: got %v, want a LimitError of %s", tt.name, err, tt.what)
		}
	}
}

// The JSON form is what encoding/json uses, though there are text methods too.
func TestAudienceWithinJSON(t *testing.T) {
	t.Parallel()
	type push struct {
		To Audience `json:"to,omitzero"`
	}
	b, err := json.Marshal(push{Tag("a")})
	if want := `{"to":{"tag":"a"}}`; err != nil || string(b) != want {
		t.Errorf("got %s, %v; want %s", b, err, want)
	}
	if b, err := json.Marshal(push{}); err != nil || string(b) != "{}" {
		t.Errorf("zero, omitted: %s, %v", b, err)
	}
	var p push
	if err := json.Unmarshal([]byte(`{"to":"all"}`), &p); err == nil {
		t.Error("text is read as JSON")
	}
	if err := json.Unmarshal([]byte(`{"to":null}`), &p); err == nil {
		t.Error("null is read as an audience")
	}
}

func TestAudienceText(t *testing.T) {
	t.Parallel()
	a := Tag("before")
	if err := a.UnmarshalText([]byte("tag:")); err == nil || a.String() != `tag:"before"` {
		t.Errorf("got %s, %v", a, err)
	}
	if err := a.UnmarshalText([]byte("platform:apns")); err != nil || a.String() != "platform:apns" {
		t.Errorf("got %s, %v", a, err)
	}
	if b, err := a.MarshalText(); err != nil || string(b) != "platform:apns" {
		t.Errorf("got %s, %v", b, err)
	}
}

// checkAudienceForms checks that a comes back from both of its forms, where
// they are within their bounds: what is short as text or JSON may be long as
// the other.
func checkAudienceForms(t rapid.TB, a Audience) {
	t.Helper()
	text := a.String()
	if len(text) > maxAudienceBytes/8 {
		return
	}
	back, err := ParseAudience(text)
	if err != nil {
		t.Fatalf("%s: does not parse back: %v", text, err)
	}
	if !sameExpr(a.expr, back.expr) || back.String() != text {
		t.Fatalf("%s: parses back as %s", text, back)
	}
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var fromJSON Audience
	if err := json.Unmarshal(b, &fromJSON); err != nil {
		t.Fatalf("%s: %s does not unmarshal: %v", text, b, err)
	}
	if !sameExpr(a.expr, fromJSON.expr) {
		t.Fatalf("%s: %s unmarshals as %s", text, b, fromJSON)
	}
}

// checkNormal checks that a node has the one form of its meaning.
func checkNormal(t rapid.TB, e *store.Expr) {
	t.Helper()
	switch e.Op {
	case store.OpAnd, store.OpOr:
		if len(e.Args) < 2 {
			t.Fatalf("an operator over %d terms", len(e.Args))
		}
	case store.OpUsers:
		if !slices.IsSorted(e.IDs) || len(slices.Compact(slices.Clone(e.IDs))) != len(e.IDs) {
			t.Fatalf("users not in order: %q", e.IDs)
		}
	}
	for _, arg := range e.Args {
		if arg.Op == e.Op {
			t.Fatalf("operator %d within itself", e.Op)
		}
		checkNormal(t, arg)
	}
}

func audienceGen(depth int) *rapid.Generator[Audience] {
	text := rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}`),
		rapid.SampledFrom([]string{"and", "OR", "Not", "in", "all", ".", "-", "", "a b", `"`, `\`, "a\nb", "\u202e", "\u0301", "İN", "中文", "😀", "\U000E0001", "\u2028", "<&>"}),
	)
	return rapid.Custom(func(t *rapid.T) Audience {
		kinds := []string{"all", "tag", "attr", "users", "platform", "sample", "compare", "between", "exists", "language", "timezone", "seen", "within", "since", "saved"}
		values := rapid.OneOf(text, rapid.StringMatching(`-?[0-9]{1,4}([.-][0-9]{1,3})?`))
		if depth > 0 {
			kinds = append(kinds, "and", "or", "not", "and", "or", "not", "and", "or")
		}
		first := func() Audience { return audienceGen(depth-1).Draw(t, "first") }
		others := func() []Audience { return rapid.SliceOfN(audienceGen(depth-1), 0, 4).Draw(t, "others") }
		switch rapid.SampledFrom(kinds).Draw(t, "kind") {
		case "all":
			return All()
		case "tag":
			return Tag(text.Draw(t, "tag"))
		case "attr":
			return Attr(text.Draw(t, "name"), text.Draw(t, "value"))
		case "users":
			return Users(rapid.SliceOfN(text, 0, 4).Draw(t, "ids")...)
		case "platform":
			return Platform(text.Draw(t, "platform"))
		case "compare":
			compare := rapid.SampledFrom([]func(string, string) Audience{AttrLess, AttrAtMost, AttrMore, AttrAtLeast}).Draw(t, "comparison")
			return compare(text.Draw(t, "name"), values.Draw(t, "value"))
		case "between":
			return AttrBetween(text.Draw(t, "name"), values.Draw(t, "low"), values.Draw(t, "high"))
		case "exists":
			return HasAttr(text.Draw(t, "name"))
		case "language":
			return Language(rapid.OneOf(text, rapid.StringMatching(`[a-zA-Z]{2,3}([-_][a-zA-Z0-9]{1,9}){0,4}`)).Draw(t, "language"))
		case "timezone":
			return TimeZone(text.Draw(t, "zone"))
		case "seen":
			return SeenWithin(rapid.IntRange(1, store.MaxDays).Draw(t, "days"))
		case "within":
			return RegisteredWithin(rapid.IntRange(1, store.MaxDays).Draw(t, "days"))
		case "since":
			return RegisteredSince(time.Unix(rapid.Int64Range(-1<<36, 1<<40).Draw(t, "time"), 0))
		case "saved":
			return Saved(text.Draw(t, "saved"))
		case "sample":
			return Sample(rapid.OneOf(
				rapid.Float64Range(0, 100),
				rapid.Map(rapid.IntRange(0, 1_000_000), func(ppm int) float64 { return float64(ppm) / 10_000 }),
			).Draw(t, "percent"), text.Draw(t, "salt"))
		case "and":
			return first().And(others()...)
		case "or":
			return first().Or(others()...)
		default:
			return first().Not()
		}
	})
}

func TestAudienceProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := audienceGen(4).Draw(t, "audience")
		checkNormal(t, a.expr)
		checkAudienceForms(t, a)
	})
}

func FuzzParseAudience(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAudience(text)
		if err != nil {
			var wrong *ParseError
			var limit *LimitError
			switch {
			case errors.As(err, &wrong):
				checkParseError(t, text, wrong)
			case !errors.As(err, &limit):
				t.Errorf("neither a ParseError nor a LimitError: %v", err)
			}
			if !a.IsZero() {
				t.Errorf("an audience beside the error: %s", a)
			}
			return
		}
		checkNormal(t, a.expr)
		checkAudienceForms(t, a)
	})
}

func FuzzAudienceJSON(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		var a Audience
		if err := a.UnmarshalJSON(data); err != nil {
			if !a.IsZero() {
				t.Errorf("an audience beside the error: %s", a)
			}
			return
		}
		if !json.Valid(data) {
			t.Errorf("read from what is not JSON: %q", data)
		}
		checkNormal(t, a.expr)
		checkAudienceForms(t, a)
	})
}
