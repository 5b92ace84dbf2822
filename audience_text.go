package fanfare

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fanfare-im/fanfare/store"
)

// maxAudienceBytes bounds the text and the JSON of an audience.
const maxAudienceBytes = 1 << 20

// ParseError says where the text of an audience is wrong, and what was
// expected there.
type ParseError struct {
	Column  int    // in characters from the start of the text, the first is 1
	Offset  int    // in bytes from the start of the text, the first is 0
	Message string // for a person, such as `expected a quoted string or a word after "tag:"`
}

// Error says in which column the mistake is, and what it is.
func (e *ParseError) Error() string {
	return fmt.Sprintf("audience: column %d: %s", e.Column, e.Message)
}

// ParseAudience reads the text form of an audience:
//
//	all
//	tag:"stock A" or tag:vip
//	attr.tier = "platinum" and attr.city = "Shenzhen" and not tag:"muted"
//	attr."home town" != "Wuhan" and attr.tier in ("gold", "platinum")
//	user:"alice" or user in ("bob", "carol")
//	(platform:apns or platform:fcm) and sample(10%, "salt")
//	attr.age >= 18 and attr.age < 65 or attr.born between 1990-01-01 and 1999-12-31
//	attr.city exists and language:zh and not timezone:"Asia/Shanghai"
//	seen within 7 days and (registered since 2026-01-01 or registered within 30 days)
//	saved:"vips" and not tag:muted
//
// not binds tightest, then and, then or. Keywords are read in upper and lower
// case. A string is quoted as in Go, with \" \\ \n \r \t \uXXXX and
// \UXXXXXXXX; it may do without quotes when it starts with a letter, a digit or
// an underscore, goes on with these, hyphens and dots, and is none of and, or,
// not, in. != means the users who do not have this value, those who have none
// among them. The whole grammar is in docs/audiences.md.
//
// A mistake is a [*ParseError]. Text above 1 MiB, nesting deeper than 100 and
// more terms or users than an audience may have are a [*LimitError]. Lengths of
// tags and the like are checked where the audience is used.
func ParseAudience(text string) (Audience, error) {
	if len(text) > maxAudienceBytes {
		return Audience{}, &LimitError{What: "text of an audience in bytes", Limit: maxAudienceBytes, Got: int64(len(text))}
	}
	p := &audienceParser{text: text}
	for i, r := range text {
		if r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD") {
			return Audience{}, p.errorAt(i, "the text is not valid UTF-8 here")
		}
	}
	a, err := p.or()
	if err != nil {
		return Audience{}, err
	}
	if p.skipSpace(); p.pos < len(text) {
		return Audience{}, p.expected(`"and", "or" or the end of the text`)
	}
	if err := a.expr.Validate(); err != nil {
		return Audience{}, err
	}
	return a, nil
}

// String returns the text form in its one canonical spelling, which
// [ParseAudience] reads back as the same audience, unless the text is above its
// bound or the audience is one that is refused where it is used. The String of
// the zero Audience is empty, which does not parse.
func (a Audience) String() string {
	if a.expr == nil {
		return ""
	}
	var b strings.Builder
	writeExpr(&b, a.expr, bindOr)
	return b.String()
}

// MarshalText returns the text form. For the zero Audience it fails with
// [ErrNoAudience]. Package encoding/json uses the JSON form instead.
func (a Audience) MarshalText() ([]byte, error) {
	if a.expr == nil {
		return nil, ErrNoAudience
	}
	return []byte(a.String()), nil
}

// UnmarshalText sets a to what [ParseAudience] reads; after an error a is
// unchanged.
func (a *Audience) UnmarshalText(text []byte) error {
	parsed, err := ParseAudience(string(text))
	if err == nil {
		*a = parsed
	}
	return err
}

// How tightly an operator binds.
const (
	bindOr = iota
	bindAnd
	bindNot
)

// writeExpr writes e as a term of an operator that binds as tightly as least;
// what binds less gets parentheses.
func writeExpr(b *strings.Builder, e *store.Expr, least int) {
	switch e.Op {
	case store.OpAll:
		b.WriteString("all")
	case store.OpTag:
		b.WriteString("tag:")
		writeQuoted(b, e.Value)
	case store.OpAttr:
		writeAttr(b, e, " = ")
	case store.OpLess, store.OpAtMost, store.OpMore, store.OpAtLeast:
		writeAttrName(b, e)
		b.WriteString(" " + comparisonSign[e.Op] + " ")
		writeOperand(b, e.Value)
	case store.OpBetween:
		writeAttrName(b, e)
		b.WriteString(" between ")
		writeOperand(b, e.Value)
		b.WriteString(" and ")
		writeOperand(b, e.High)
	case store.OpHas:
		writeAttrName(b, e)
		b.WriteString(" exists")
	case store.OpLanguage:
		b.WriteString("language:")
		writeName(b, e.Value)
	case store.OpTimeZone:
		b.WriteString("timezone:")
		writeQuoted(b, e.Value)
	case store.OpSaved:
		b.WriteString("saved:")
		writeQuoted(b, e.Value)
	case store.OpSeenWithin:
		b.WriteString("seen within " + formatDays(e.Days))
	case store.OpRegisteredWithin:
		b.WriteString("registered within " + formatDays(e.Days))
	case store.OpRegisteredSince:
		b.WriteString("registered since " + formatDay(e.Days))
	case store.OpUsers:
		writeUsers(b, e.IDs)
	case store.OpPlatform:
		b.WriteString("platform:")
		writeName(b, e.Value)
	case store.OpSample:
		b.WriteString("sample(" + formatPercent(e.PPM) + "%, ")
		writeQuoted(b, e.Value)
		b.WriteByte(')')
	case store.OpAnd:
		writeJoined(b, e.Args, " and ", bindAnd, least)
	case store.OpOr:
		writeJoined(b, e.Args, " or ", bindOr, least)
	case store.OpNot:
		if arg := e.Args[0]; arg.Op == store.OpAttr {
			writeAttr(b, arg, " != ")
		} else {
			b.WriteString("not ")
			writeExpr(b, arg, bindNot)
		}
	}
}

func writeJoined(b *strings.Builder, args []*store.Expr, sep string, bind, least int) {
	if bind < least {
		b.WriteByte('(')
		defer b.WriteByte(')')
	}
	for i, arg := range args {
		if i > 0 {
			b.WriteString(sep)
		}
		writeExpr(b, arg, bind)
	}
}

// comparisonSign is how a comparison is written in text.
var comparisonSign = map[store.Op]string{
	store.OpLess: "<", store.OpAtMost: "<=", store.OpMore: ">", store.OpAtLeast: ">=",
}

func writeAttrName(b *strings.Builder, e *store.Expr) {
	b.WriteString("attr.")
	writeName(b, e.Name)
}

func writeAttr(b *strings.Builder, e *store.Expr, operator string) {
	writeAttrName(b, e)
	b.WriteString(operator)
	writeQuoted(b, e.Value)
}

// writeOperand writes a number or a date without quotes.
func writeOperand(b *strings.Builder, s string) {
	word := strings.TrimPrefix(s, "-")
	if word != "" && '0' <= word[0] && word[0] <= '9' && wordLen(word) == len(word) {
		b.WriteString(s)
	} else {
		writeQuoted(b, s)
	}
}

func formatDays(days uint32) string {
	if days == 1 {
		return "1 day"
	}
	return strconv.Itoa(int(int32(days))) + " days"
}

func formatDay(day uint32) string {
	return time.Unix(int64(day)*secondsOfDay, 0).UTC().Format(time.DateOnly)
}

// parseDay reads a date, or the date by UTC of a time.
func parseDay(s string) (Audience, bool) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		t, err = time.Parse(time.RFC3339, s)
	}
	return RegisteredSince(t), err == nil && t.Unix() >= 0 && t.Unix()/secondsOfDay <= lastDay
}

func writeUsers(b *strings.Builder, ids []string) {
	if len(ids) == 1 {
		b.WriteString("user:")
		writeQuoted(b, ids[0])
		return
	}
	b.WriteString("user in (")
	for i, id := range ids {
		if i > 0 {
			b.WriteString(", ")
		}
		writeQuoted(b, id)
	}
	b.WriteByte(')')
}

func writeName(b *strings.Builder, s string) {
	if n := wordLen(s); n > 0 && n == len(s) && !reserved(s) {
		b.WriteString(s)
	} else {
		writeQuoted(b, s)
	}
}

// writeQuoted escapes what cannot be seen, so that nothing hides in a text that
// an operator approves. A byte that is not UTF-8 is written as \x, which does
// not parse: better refused than changed.
func writeQuoted(b *strings.Builder, s string) {
	b.WriteByte('"')
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(b, `\x%02x`, s[0])
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case strconv.IsPrint(r):
			b.WriteRune(r)
		case r <= 0xFFFF:
			fmt.Fprintf(b, `\u%04x`, r)
		default:
			fmt.Fprintf(b, `\U%08x`, r)
		}
		s = s[size:]
	}
	b.WriteByte('"')
}

// formatPercent writes parts per million as percent, exactly.
func formatPercent(ppm uint32) string {
	v, sign := int64(int32(ppm)), ""
	if v < 0 {
		v, sign = -v, "-"
	}
	s := fmt.Sprintf("%s%d.%04d", sign, v/10_000, v%10_000)
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

// wordLen is the length in bytes of the word that s starts with, 0 if none.
func wordLen(s string) int {
	for i, r := range s {
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_':
		case i > 0 && (r == '-' || r == '.' || unicode.IsMark(r)):
		default:
			return i
		}
	}
	return len(s)
}

// reserved reports whether a word must be quoted to be a name or a value: one
// forgotten before an operator would swallow the operator.
func reserved(word string) bool {
	switch lowerASCII(word) {
	case "and", "or", "not", "in":
		return true
	}
	return false
}

// lowerASCII leaves other letters alone: folding them would make keywords of
// words that only resemble one, such as "İN".
func lowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

// audienceParser reads text by recursive descent. depth counts the parentheses
// and nots that are open, the only things that recurse.
type audienceParser struct {
	text  string
	pos   int
	term  int // where the term being read starts, for messages
	depth int
}

func (p *audienceParser) or() (Audience, error) {
	return p.joined("or", store.OpOr, p.and)
}

func (p *audienceParser) and() (Audience, error) {
	return p.joined("and", store.OpAnd, p.not)
}

func (p *audienceParser) joined(word string, op store.Op, operand func() (Audience, error)) (Audience, error) {
	var terms []Audience
	for {
		a, err := operand()
		if err != nil {
			return Audience{}, err
		}
		terms = append(terms, a)
		if !p.keyword(word) {
			return joinAudiences(op, terms), nil
		}
	}
}

func (p *audienceParser) not() (Audience, error) {
	nots := 0
	for p.keyword("not") {
		if err := p.enter(); err != nil {
			return Audience{}, err
		}
		nots++
	}
	a, err := p.primary()
	p.depth -= nots
	if nots%2 == 1 {
		a = a.Not()
	}
	return a, err
}

func (p *audienceParser) enter() error {
	if p.depth++; p.depth > store.MaxExprDepth {
		return &LimitError{What: "nesting of an audience", Limit: store.MaxExprDepth, Got: int64(p.depth)}
	}
	return nil
}

func (p *audienceParser) primary() (Audience, error) {
	p.skipSpace()
	open := p.pos
	if p.symbol("(") {
		if err := p.enter(); err != nil {
			return Audience{}, err
		}
		a, err := p.or()
		if err == nil && !p.symbol(")") {
			err = p.expected(`"and", "or" or ")" to close column ` + strconv.Itoa(p.column(open)))
		}
		p.depth--
		return a, err
	}
	term, word := p.pos, p.word()
	p.pos += len(word)
	previous := p.term
	p.term = term
	switch lowerASCII(word) {
	case "all":
		return All(), nil
	case "tag":
		return p.colon(Tag)
	case "attr":
		return p.attr()
	case "user":
		return p.user()
	case "platform":
		return p.colon(Platform)
	case "language":
		return p.colon(Language)
	case "timezone":
		return p.colon(TimeZone)
	case "saved":
		return p.colon(Saved)
	case "seen":
		if !p.keyword("within") {
			return Audience{}, p.expected(`"within"`)
		}
		return p.days(SeenWithin)
	case "registered":
		return p.registered()
	case "sample":
		return p.sample()
	}
	p.term, p.pos = previous, term
	return Audience{}, p.expected(`a term (all, tag:"…", attr.name = "…", attr.name >= …, user:"…", platform:name, language:name, timezone:"…", seen within 7 days, registered since 2026-01-31, saved:"…" or sample(10%, "…")), "not" or "("`)
}

// colon reads what follows tag and platform.
func (p *audienceParser) colon(term func(string) Audience) (Audience, error) {
	if !p.symbol(":") {
		return Audience{}, p.expected(`":"`)
	}
	v, err := p.value()
	return term(v), err
}

func (p *audienceParser) attr() (Audience, error) {
	if !p.symbol(".") {
		return Audience{}, p.expected(`"." and the attribute's name`)
	}
	name, err := p.value()
	if err != nil {
		return Audience{}, err
	}
	for _, c := range comparisons {
		if p.symbol(c.sign) {
			v, err := p.operand()
			return c.term(name, v), err
		}
	}
	switch {
	case p.keyword("exists"):
		return HasAttr(name), nil
	case p.keyword("between"):
		return p.between(name)
	case p.keyword("in"):
		values, err := p.list(p.operand)
		if err != nil {
			return Audience{}, err
		}
		if len(values) == 0 {
			return Audience{}, p.errorAt(p.pos-1, "expected at least one value in the list")
		}
		terms := make([]Audience, len(values))
		for i, v := range values {
			terms[i] = Attr(name, v)
		}
		return joinAudiences(store.OpOr, terms), nil
	}
	return Audience{}, p.expected(`"=", "!=", "<", "<=", ">", ">=", "in", "between" or "exists"`)
}

// comparisons are the signs behind an attribute, those first that begin with another.
var comparisons = []struct {
	sign string
	term func(name, value string) Audience
}{
	{"=", Attr}, {"!=", func(name, value string) Audience { return Attr(name, value).Not() }},
	{"<=", AttrAtMost}, {"<", AttrLess}, {">=", AttrAtLeast}, {">", AttrMore},
}

func (p *audienceParser) between(name string) (Audience, error) {
	low, err := p.operand()
	if err != nil {
		return Audience{}, err
	}
	if !p.keyword("and") {
		return Audience{}, p.expected(`"and" and the upper bound`)
	}
	high, err := p.operand()
	return AttrBetween(name, low, high), err
}

// days reads what follows within.
func (p *audienceParser) days(term func(int) Audience) (Audience, error) {
	p.skipSpace()
	digits := p.text[p.pos:]
	if i := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = digits[:i]
	}
	days, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || days < 1 || days > store.MaxDays {
		return Audience{}, p.expected(fmt.Sprintf("a number of days from 1 to %d", store.MaxDays))
	}
	if p.pos += len(digits); !p.keyword("days") && !p.keyword("day") {
		return Audience{}, p.expected(`"days"`)
	}
	return term(int(days)), nil
}

func (p *audienceParser) registered() (Audience, error) {
	switch {
	case p.keyword("within"):
		return p.days(RegisteredWithin)
	case p.keyword("since"):
		p.skipSpace()
		at := p.pos
		date, err := p.value()
		if err != nil {
			return Audience{}, err
		}
		since, is := parseDay(date)
		if !is {
			return Audience{}, p.errorAt(at, "expected a date such as 2026-01-31, from 1970 on")
		}
		return since, nil
	}
	return Audience{}, p.expected(`"since" or "within"`)
}

func (p *audienceParser) user() (Audience, error) {
	switch {
	case p.symbol(":"):
		id, err := p.value()
		return Users(id), err
	case p.keyword("in"):
		ids, err := p.list(p.value)
		return Users(ids...), err
	}
	return Audience{}, p.expected(`":" or "in"`)
}

func (p *audienceParser) sample() (Audience, error) {
	if !p.symbol("(") {
		return Audience{}, p.expected(`"("`)
	}
	p.skipSpace()
	digits := p.text[p.pos:]
	if i := strings.IndexFunc(digits, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i >= 0 {
		digits = digits[:i]
	}
	percent, err := strconv.ParseFloat(digits, 64)
	if err != nil || percent > 100 || strings.Trim(digits, ".") != digits {
		return Audience{}, p.expected("a number from 0 to 100")
	}
	if p.pos += len(digits); !p.symbol("%") {
		return Audience{}, p.expected(`"%"`)
	}
	if !p.symbol(",") {
		return Audience{}, p.expected(`"," and the salt`)
	}
	salt, err := p.value()
	if err == nil && !p.symbol(")") {
		err = p.expected(`")"`)
	}
	return Sample(percent, salt), err
}

// list reads values in parentheses; there may be none.
func (p *audienceParser) list(value func() (string, error)) ([]string, error) {
	if !p.symbol("(") {
		return nil, p.expected(`"("`)
	}
	if p.symbol(")") {
		return nil, nil
	}
	var values []string
	for {
		v, err := value()
		if err != nil {
			return nil, err
		}
		values = append(values, v)
		if p.symbol(")") {
			return values, nil
		}
		if !p.symbol(",") {
			return nil, p.expected(`"," or ")"`)
		}
	}
}

// operand reads a value of an attribute: one, or a number below zero.
func (p *audienceParser) operand() (string, error) {
	p.skipSpace()
	if rest := p.text[p.pos:]; len(rest) < 2 || rest[0] != '-' || rest[1] < '0' || rest[1] > '9' {
		return p.value()
	}
	p.pos++
	v, err := p.value()
	return "-" + v, err
}

// value reads a quoted string or a word.
func (p *audienceParser) value() (string, error) {
	if p.symbol(`"`) {
		return p.quoted()
	}
	word := p.text[p.pos:]
	word = word[:wordLen(word)]
	if word == "" || reserved(word) {
		return "", p.expected("a quoted string or a word")
	}
	p.pos += len(word)
	if r, _ := utf8.DecodeRuneInString(p.text[p.pos:]); p.pos < len(p.text) && !unicode.IsSpace(r) && !strings.ContainsRune("(),=!<>", r) {
		return "", p.errorAt(p.pos, fmt.Sprintf("%s cannot stand in a word; write the whole in quotes", inQuotes(string(r))))
	}
	return word, nil
}

// quoted reads a string from after its opening quote.
func (p *audienceParser) quoted() (string, error) {
	open := p.pos - 1
	var b strings.Builder
	for {
		i := strings.IndexAny(p.text[p.pos:], "\"\\\n")
		if i < 0 || p.text[p.pos+i] == '\n' {
			return "", p.errorAt(open, "the quoted string that starts here is not closed")
		}
		b.WriteString(p.text[p.pos : p.pos+i])
		if p.pos += i; p.text[p.pos] == '"' {
			p.pos++
			return b.String(), nil
		}
		r, size := unescape(p.text[p.pos:])
		if size == 0 {
			return "", p.errorAt(p.pos, `unknown escape; there are \" \\ \n \r \t \uXXXX and \UXXXXXXXX`)
		}
		b.WriteRune(r)
		p.pos += size
	}
}

// unescape reads the escape that s starts with, and how long it is: 0 if none.
func unescape(s string) (rune, int) {
	if len(s) < 2 {
		return 0, 0
	}
	digits := 0
	switch s[1] {
	case '"', '\\':
		return rune(s[1]), 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	}
	if digits == 0 || len(s) < 2+digits {
		return 0, 0
	}
	v, err := strconv.ParseUint(s[2:2+digits], 16, 32)
	if err != nil || !utf8.ValidRune(rune(v)) {
		return 0, 0
	}
	return rune(v), 2 + digits
}

func (p *audienceParser) skipSpace() {
	rest := p.text[p.pos:]
	p.pos += len(rest) - len(strings.TrimLeftFunc(rest, unicode.IsSpace))
}

// symbol takes s if it comes next.
func (p *audienceParser) symbol(s string) bool {
	p.skipSpace()
	if !strings.HasPrefix(p.text[p.pos:], s) {
		return false
	}
	p.pos += len(s)
	return true
}

// word is the word that comes next, up to a dot.
func (p *audienceParser) word() string {
	word, _, _ := strings.Cut(p.text[p.pos:p.pos+wordLen(p.text[p.pos:])], ".")
	return word
}

// keyword takes a word if it comes next.
func (p *audienceParser) keyword(word string) bool {
	p.skipSpace()
	if w := p.word(); lowerASCII(w) != word {
		return false
	}
	p.pos += len(word)
	return true
}

func (p *audienceParser) column(offset int) int {
	return utf8.RuneCountInString(p.text[:offset]) + 1
}

func (p *audienceParser) errorAt(offset int, message string) error {
	return &ParseError{Column: p.column(offset), Offset: offset, Message: message}
}

// expected says what should come next, after what, and what comes instead.
func (p *audienceParser) expected(what string) error {
	p.skipSpace()
	message := "expected " + what
	if before := strings.TrimRightFunc(p.text[p.term:p.pos], unicode.IsSpace); before != "" {
		message += " after " + inQuotes(lastRunes(before, 40))
	}
	if p.pos < len(p.text) {
		found := p.word()
		switch _, size := utf8.DecodeRuneInString(p.text[p.pos:]); {
		case found == "":
			message += ", found " + inQuotes(p.text[p.pos:p.pos+size])
		case reserved(found):
			message += ", found the keyword " + inQuotes(found)
		default:
			message += ", found " + inQuotes(firstRunes(found, 40))
		}
	}
	return p.errorAt(p.pos, message)
}

// inQuotes quotes s, without escapes where it can.
func inQuotes(s string) string {
	if strings.ContainsAny(s, "\"\\") && strconv.CanBackquote(s) {
		return "`" + s + "`"
	}
	return strconv.Quote(s)
}

func firstRunes(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i] + "…"
		}
	}
	return s
}

func lastRunes(s string, n int) string {
	for i := len(s); i > 0; n-- {
		if n == 0 {
			return "…" + s[i:]
		}
		_, size := utf8.DecodeLastRuneInString(s[:i])
		i -= size
	}
	return s
}
