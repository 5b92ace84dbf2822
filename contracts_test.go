package fanfare

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// TestContracts holds every package that others import to its page: each exported name has a contract that begins with the name, each link in a comment
// leads somewhere, each package has an Example that runs, and in the root package each type has one.
func TestContracts(t *testing.T) {
	t.Parallel()
	l := make(library)
	var own []*page
	for _, importPath := range goList(t, "-f", `{{if ne .Name "main"}}{{.ImportPath}}{{end}}`, "./...") {
		if !strings.Contains(importPath+"/", "/internal/") {
			own = append(own, l.read(t, importPath))
		}
	}
	for _, pg := range own {
		pg.check(l, demands{
			// Those who look into store work on the library itself: docs/format.md has the fields of its commands and records.
			example: pg.doc.ImportPath != modulePath+"/store",
			fields:  pg.doc.ImportPath != modulePath+"/store",
			types:   pg.doc.ImportPath == modulePath,
		})
		for _, wrong := range pg.wrong {
			t.Error(wrong)
		}
	}
}

// A library has the pages of packages by import path.
type library map[string]*page

// read adds and returns the page of a package of the module.
func (l library) read(t *testing.T, importPath string) *page {
	t.Helper()
	dir := filepath.Join(".", strings.TrimPrefix(importPath, modulePath))
	p, err := build.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	sources := make(map[string]string)
	for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
		name := filepath.Join(dir, name)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		sources[name] = string(b)
	}
	return l.add(t, importPath, sources)
}

// add adds and returns the page of a package by its files.
func (l library) add(t *testing.T, importPath string, sources map[string]string) *page {
	t.Helper()
	pg := &page{fset: token.NewFileSet()}
	var tests []*ast.File
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		f, err := parser.ParseFile(pg.fset, name, sources[name], parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "_test.go") {
			tests = append(tests, f)
		} else {
			pg.files = append(pg.files, f)
		}
	}
	var err error
	if pg.doc, err = doc.NewFromFiles(pg.fset, slices.Concat(pg.files, tests), importPath, doc.PreserveAST); err != nil {
		t.Fatal(err)
	}
	l[importPath] = pg
	return pg
}

// has says whether a package, of the module or not, has a name, and whether it is known at all.
func (l library) has(importPath, recv, name string) bool {
	pg := l[importPath]
	if pg == nil {
		pg = outside(importPath)
		l[importPath] = pg
	}
	return pg.doc != nil && (name == "" || pg.doc.Parser().LookupSym(recv, name))
}

// outside returns the page of a package that is not of the module, an empty one if there is none.
func outside(importPath string) *page {
	p, err := build.Import(importPath, ".", 0)
	if err != nil {
		return new(page)
	}
	pg := &page{fset: token.NewFileSet()}
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(pg.fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return new(page)
		}
		pg.files = append(pg.files, f)
	}
	pg.doc, _ = doc.NewFromFiles(pg.fset, pg.files, importPath)
	return pg
}

// A page is what a package shows to those who think of importing it.
type page struct {
	fset  *token.FileSet
	files []*ast.File // without tests
	doc   *doc.Package
	wrong []string // what check has found
}

// demands are what not every page has to have.
type demands struct {
	example bool // one that runs, for the package or one of its names
	types   bool // one that runs for each exported type
	fields  bool // comments on the fields of structs and the methods of interfaces
}

func (pg *page) errorf(pos token.Pos, format string, args ...any) {
	pg.wrong = append(pg.wrong, fmt.Sprintf("%s: %s", pg.fset.Position(pos), fmt.Sprintf(format, args...)))
}

func (pg *page) check(l library, d demands) {
	if !begins(pg.doc.Doc, "Package "+pg.doc.Name) {
		pg.errorf(pg.files[0].Package, "package %s has no comment that begins %q: give it one, in doc.go say", pg.doc.Name, "Package "+pg.doc.Name)
	}
	for _, f := range pg.files {
		pg.links(l, f.Doc)
		for _, decl := range f.Decls {
			pg.declaration(decl, d)
			ast.Inspect(decl, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncDecl:
					pg.links(l, n.Doc)
				case *ast.GenDecl:
					pg.links(l, n.Doc)
				case *ast.TypeSpec:
					pg.links(l, n.Doc, n.Comment)
				case *ast.ValueSpec:
					pg.links(l, n.Doc, n.Comment)
				case *ast.Field:
					pg.links(l, n.Doc, n.Comment)
				case *ast.BlockStmt:
					return false
				}
				return true
			})
		}
	}
	pg.examples(d)
	slices.Sort(pg.wrong)
}

// declaration looks for the contracts of the exported names that are declared.
func (pg *page) declaration(decl ast.Decl, d demands) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		name := decl.Name.Name
		if decl.Recv != nil {
			recv := receiver(decl.Recv.List[0].Type)
			if !ast.IsExported(recv) {
				return
			}
			name = recv + "." + name
		}
		pg.contract(decl.Name, name, decl.Doc)
	case *ast.GenDecl:
		group := decl.Lparen.IsValid()
		for _, spec := range decl.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				text := spec.Doc
				if !group {
					text = decl.Doc
				}
				pg.contract(spec.Name, spec.Name.Name, text)
				if d.fields && spec.Name.IsExported() {
					pg.fields(spec, text)
				}
			case *ast.ValueSpec:
				text := spec.Doc
				if !group {
					text = decl.Doc
				}
				if group && (text.Text() == "" && decl.Doc.Text() != "" || spec.Comment.Text() != "") {
					continue // the group's comment, or the one beside it, is its contract
				}
				for _, name := range spec.Names {
					pg.contract(name, name.Name, text)
				}
			}
		}
	}
}

// contract wants a comment on an exported name that begins with it.
func (pg *page) contract(at *ast.Ident, name string, text *ast.CommentGroup) {
	switch {
	case !at.IsExported():
	case strings.TrimSpace(text.Text()) == "":
		pg.errorf(at.Pos(), "%s has no doc comment: say what it promises", name)
	case !begins(text.Text(), at.Name) && !begins(text.Text(), "A "+at.Name) && !begins(text.Text(), "An "+at.Name):
		first, _, _ := strings.Cut(text.Text(), "\n")
		pg.errorf(at.Pos(), "the doc comment of %s begins %q, not with %s", name, first, at.Name)
	}
}

// fields wants, for each exported field of a struct and method of an interface, a comment on it, or another one of the type that names it.
func (pg *page) fields(spec *ast.TypeSpec, text *ast.CommentGroup) {
	var list *ast.FieldList
	switch typ := spec.Type.(type) {
	case *ast.StructType:
		list = typ.Fields
	case *ast.InterfaceType:
		list = typ.Methods
	default:
		return
	}
	var all strings.Builder
	all.WriteString(text.Text())
	for _, field := range list.List {
		all.WriteString(field.Doc.Text() + field.Comment.Text())
	}
	for _, field := range list.List {
		if strings.TrimSpace(field.Doc.Text()+field.Comment.Text()) != "" {
			continue
		}
		for _, name := range field.Names {
			if name.IsExported() && !regexp.MustCompile(`\b`+name.Name+`\b`).MatchString(all.String()) {
				pg.errorf(name.Pos(), "%s.%s has no comment, and none of the type names it", spec.Name, name)
			}
		}
	}
}

// links wants each doc link to lead to a name that there is.
func (pg *page) links(l library, groups ...*ast.CommentGroup) {
	// Whatever looks like a link is taken for one: go/doc shows what leads nowhere as plain text, brackets and all.
	links := comment.Parser{
		LookupPackage: func(name string) (string, bool) { return name, true },
		LookupSym:     func(recv, name string) bool { return true },
	}
	for _, group := range groups {
		for _, link := range docLinks(links.Parse(group.Text()).Content) {
			importPath, ok := pg.imported(link.ImportPath)
			if link.Name == "" && !strings.ContainsAny(link.ImportPath, "./") {
				continue // a word in brackets
			}
			shown := strings.Trim(link.ImportPath+"."+strings.Trim(link.Recv+"."+link.Name, "."), ".")
			switch {
			case !ok:
				pg.errorf(group.Pos(), "the doc link [%s] leads nowhere: %s is no package that is imported here", shown, link.ImportPath)
			case !l.has(importPath, link.Recv, link.Name):
				pg.errorf(group.Pos(), "the doc link [%s] leads nowhere: it is no exported name of %s", shown, importPath)
			}
		}
	}
}

// imported returns the import path of a package as a doc link names it.
func (pg *page) imported(name string) (string, bool) {
	if name == "" {
		return pg.doc.ImportPath, true
	}
	if strings.Contains(name, "/") {
		return name, true
	}
	importPath, ok := pg.doc.Parser().LookupPackage(name)
	if !ok {
		return comment.DefaultLookupPackage(name)
	}
	return cmp.Or(importPath, pg.doc.ImportPath), true
}

// examples wants the Examples that are demanded, and that they run.
func (pg *page) examples(d demands) {
	runs := func(list []*doc.Example) bool {
		return slices.ContainsFunc(list, func(e *doc.Example) bool { return e.Output != "" || e.EmptyOutput })
	}
	some := runs(pg.doc.Examples)
	for _, f := range pg.doc.Funcs {
		some = some || runs(f.Examples)
	}
	for _, typ := range pg.doc.Types {
		its := runs(typ.Examples)
		for _, m := range typ.Methods {
			its = its || runs(m.Examples)
		}
		if d.types && !its {
			pg.errorf(typ.Decl.Pos(), "the type %s has no Example that runs: write Example%s or Example%s_Method, with an Output", typ.Name, typ.Name, typ.Name)
		}
		some = some || its
		for _, f := range typ.Funcs {
			some = some || runs(f.Examples)
		}
	}
	if d.example && !some {
		pg.errorf(pg.files[0].Package, "package %s has no Example that runs", pg.doc.Name)
	}
}

// begins says whether a comment begins with a name, and not just with a longer one.
func begins(text, name string) bool {
	rest, ok := strings.CutPrefix(text, name)
	next, _ := utf8.DecodeRuneInString(rest)
	return ok && !unicode.IsLetter(next) && !unicode.IsDigit(next) && next != '_'
}

// receiver returns the name of a receiver's type.
func receiver(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// docLinks returns the doc links in the blocks of a comment.
func docLinks(blocks []comment.Block) (links []*comment.DocLink) {
	for _, block := range blocks {
		var texts []comment.Text
		switch block := block.(type) {
		case *comment.Paragraph:
			texts = block.Text
		case *comment.Heading:
			texts = block.Text
		case *comment.List:
			for _, item := range block.Items {
				links = append(links, docLinks(item.Content)...)
			}
		}
		for _, text := range texts {
			if link, ok := text.(*comment.DocLink); ok {
				links = append(links, link)
			}
		}
	}
	return links
}

// TestContractsFound: each kind of fault is found, with its place, and what is as it should be is not.
func TestContractsFound(t *testing.T) {
	t.Parallel()
	const example = "package p_test\n\nfunc ExampleT() {\n\t// Output:\n}\n\nfunc ExampleI() {\n\t// Unordered output: 1\n}\n"
	for name, c := range map[string]struct {
		source  string // of p.go
		example string // of p_test.go; none: one of the type T
		want    []string
	}{
		"nothing": {source: `// Package p has it all.
package p

import "io"

// T is what there is: see [T.M], [T.F], [V], [E], [io.Reader.Read], [net/http.Get], [errors.Is], [p.I], a[0], and [word].
type T struct {
	F int // is counted
	// A and B are two.
	A int
	B int
	hidden int
}

// M does it; see [*T].
func (t *T) M(io.Reader) {}

func (t *T) m() {}

// I is for others. N is called once.
type I interface { N() }

// A V is a number.
const V = 1

// E says why.
var E error

// The numbers.
const (
	One = 1
	Two = 2
)

const (
	// Three: more than two.
	Three = 3
	Four = 4 // is even
)

// Five and Six are a pair.
var Five, six = 5, 6

type hidden struct { F int }

func (hidden) M() {}
`},
		"package comment": {source: "package p\n\n// T is.\ntype T int\n", want: []string{
			`p.go:1:1: package p has no comment that begins "Package p": give it one, in doc.go say`}},
		"package comment of another": {source: "// Package pp is.\npackage p\n\n// T is.\ntype T int\n", want: []string{
			`p.go:2:1: package p has no comment that begins "Package p": give it one, in doc.go say`}},
		"type": {source: "// Package p is.\npackage p\n\ntype T int\n", want: []string{
			`p.go:4:6: T has no doc comment: say what it promises`}},
		"type in a group": {source: "// Package p is.\npackage p\n\n// The types.\ntype (\n\tT int\n)\n", want: []string{
			`p.go:6:2: T has no doc comment: say what it promises`}},
		"func": {source: "// Package p is.\npackage p\n\n// T is.\ntype T int\n\nfunc F() {}\n", want: []string{
			`p.go:7:6: F has no doc comment: say what it promises`}},
		"method": {source: "// Package p is.\npackage p\n\n// T is.\ntype T[X any] int\n\nfunc (t *T[X]) M() {}\n", want: []string{
			`p.go:7:16: T.M has no doc comment: say what it promises`}},
		"const": {source: "// Package p is.\npackage p\n\n// T is.\ntype T int\n\nconst C = 1\n", want: []string{
			`p.go:7:7: C has no doc comment: say what it promises`}},
		"const in a group": {source: "// Package p is.\npackage p\n\n// T is.\ntype T int\n\nconst (\n\tc = 1\n\tC = 2\n)\n", want: []string{
			`p.go:9:2: C has no doc comment: say what it promises`}},
		"var": {source: "// Package p is.\npackage p\n\n// T is.\ntype T int\n\nvar v, V int\n", want: []string{
			`p.go:7:8: V has no doc comment: say what it promises`}},
		"field": {source: "// Package p is.\npackage p\n\n// T is.\ntype T struct {\n\tF int // not FG\n\tG int\n\tg int\n}\n", want: []string{
			`p.go:7:2: T.G has no comment, and none of the type names it`}},
		"method of an interface": {source: "// Package p is.\npackage p\n\n// T is.\ntype T interface {\n\tF()\n}\n", want: []string{
			`p.go:6:2: T.F has no comment, and none of the type names it`}},
		"beginnings": {source: `// Package p is.
package p

// Who reads this knows nothing of T.
type T int

// Returns it.
func (T) M() {}

// TestingFn is another name.
func Test() {}

// That is the only one.
const C = 1

var (
	// the failure
	V int
)
`, want: []string{
			`p.go:11:6: the doc comment of Test begins "TestingFn is another name.", not with Test`,
			`p.go:14:7: the doc comment of C begins "That is the only one.", not with C`,
			`p.go:18:2: the doc comment of V begins "the failure", not with V`,
			`p.go:5:6: the doc comment of T begins "Who reads this knows nothing of T.", not with T`,
			`p.go:8:10: the doc comment of T.M begins "Returns it.", not with M`}},
		"links": {source: `// Package p is beside [Q].
package p

import "io"

// T is not [T.N].
//
//   - nor [http.Get]
//   - nor [io.Nothing]
//   - nor [example.com/none.Name]
//   - nor [T.m]
type T struct {
	F io.Reader // see [G]
	// G is not [U.H].
	G int
}

// M is not [t.M].
func (T) M() {
	// see [Within]
}

const (
	// C is not [D].
	C = 1 // or [E]
)
`, want: []string{
			`p.go:13:14: the doc link [G] leads nowhere: it is no exported name of example.com/p`,
			`p.go:14:2: the doc link [U.H] leads nowhere: it is no exported name of example.com/p`,
			`p.go:18:1: the doc link [t.M] leads nowhere: t is no package that is imported here`,
			`p.go:1:1: the doc link [Q] leads nowhere: it is no exported name of example.com/p`,
			`p.go:24:2: the doc link [D] leads nowhere: it is no exported name of example.com/p`,
			`p.go:25:8: the doc link [E] leads nowhere: it is no exported name of example.com/p`,
			`p.go:6:1: the doc link [T.N] leads nowhere: it is no exported name of example.com/p`,
			`p.go:6:1: the doc link [T.m] leads nowhere: T.m is no package that is imported here`,
			`p.go:6:1: the doc link [example.com/none.Name] leads nowhere: it is no exported name of example.com/none`,
			`p.go:6:1: the doc link [http.Get] leads nowhere: http is no package that is imported here`,
			`p.go:6:1: the doc link [io.Nothing] leads nowhere: it is no exported name of io`}},
		"no example": {source: "// Package p is.\npackage p\n\n// T is.\ntype T int\n", example: "package p_test\n", want: []string{
			`p.go:2:1: package p has no Example that runs`,
			`p.go:5:1: the type T has no Example that runs: write ExampleT or ExampleT_Method, with an Output`}},
		"an example that does not run": {source: "// Package p is.\npackage p\n\n// T is.\ntype T int\n", example: "package p_test\n\nfunc ExampleT() {}\n", want: []string{
			`p.go:2:1: package p has no Example that runs`,
			`p.go:5:1: the type T has no Example that runs: write ExampleT or ExampleT_Method, with an Output`}},
		"an example of its maker": {source: "// Package p is.\npackage p\n\n// T is.\ntype T int\n\n// New makes one.\nfunc New() T { return 0 }\n", example: "package p_test\n\nfunc ExampleNew() {\n\t// Output:\n}\n", want: []string{
			`p.go:5:1: the type T has no Example that runs: write ExampleT or ExampleT_Method, with an Output`}},
		"an example of a method": {source: "// Package p is.\npackage p\n\n// T is.\ntype T int\n\n// M does.\nfunc (T) M() {}\n", example: "package p_test\n\nfunc ExampleT_M() {\n\t// Output:\n}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := make(library)
			pg := l.add(t, "example.com/p", map[string]string{"p.go": c.source, "p_test.go": cmp.Or(c.example, example)})
			pg.check(l, demands{example: true, types: true, fields: true})
			if !slices.Equal(pg.wrong, c.want) {
				t.Errorf("found\n%s\nwant\n%s", strings.Join(pg.wrong, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}
