package console_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/fanfare-im/fanfare"
	"github.com/fanfare-im/fanfare/console"
)

// The page asks for a name and a password, and knows who may push and who may only look.
func ExampleHandler() {
	dir, err := os.MkdirTemp("", "fanfare-example-")
	check(err)
	defer os.RemoveAll(dir)
	p, err := fanfare.Open(dir, fanfare.Options{})
	check(err)
	defer p.Close(context.Background())

	page := console.Handler(p, console.Options{
		Identify: console.BasicAuth("fanfare", func(name, password string) (console.Identity, bool) {
			roles := map[string]console.Role{"vera": console.Viewer, "oscar": console.Operator}
			return console.Identity{Name: name, Role: roles[name]}, password == "secret of "+name // hashes, in a program
		}),
	})
	mux := http.NewServeMux()
	mux.Handle("/console/", http.StripPrefix("/console", page))

	for _, name := range []string{"", "vera", "oscar"} {
		r := httptest.NewRequest("GET", "/console/compose", nil)
		if name != "" {
			r.SetBasicAuth(name, "secret of "+name)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		fmt.Printf("%q: %d\n", name, w.Code)
	}
	// Output:
	// "": 401
	// "vera": 403
	// "oscar": 200
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
