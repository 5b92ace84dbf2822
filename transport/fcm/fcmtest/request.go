package fcmtest

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// maxBody is how many bytes of a request the server reads.
const maxBody = 64 << 10

// Request is one request as the function set by OnRequest sees it: Method, Path, Header and Body as they came. None of it
// may be changed, or kept after the function has returned.
type Request struct {
	Context context.Context // ends when the client gives up
	Method  string
	Path    string
	Proto   string // such as "HTTP/2.0"
	Header  http.Header
	Body    []byte
	Token   string // the registration token that a send is to, where it has one
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		panic(http.ErrAbortHandler)
	}
	defer s.handlers.Done()
	body, err := read(r)
	if err != nil {
		panic(http.ErrAbortHandler) // the client has gone
	}
	project, send := sendTo(r)
	if send {
		n := s.requests.add()
		if !s.hold(r.Context()) {
			panic(http.ErrAbortHandler)
		}
		reply := s.send(r, project, body)
		goAway, cut := s.faults.ending(n)
		reply.write(w, goAway, cut)
		return
	}
	reply := s.ask(r, body, "")
	switch {
	case reply != nil:
	case len(body) > maxBody:
		reply = s.tooBig()
	case r.Method == http.MethodPost && r.URL.Path == "/token":
		reply = s.grant(r, body)
	default:
		s.problem("nothing is at " + r.Method + " " + r.URL.Path)
		reply = noPage
	}
	reply.write(w, false, false)
}

// read reads a body, but of one that is too long only so much that it shows.
func read(r *http.Request) ([]byte, error) {
	if n := r.ContentLength; n >= 0 && n <= maxBody {
		body := make([]byte, n)
		_, err := io.ReadFull(r.Body, body)
		return body, err
	}
	return io.ReadAll(io.LimitReader(r.Body, maxBody+1))
}

// sendTo tells whether a request is a send, and for which project.
func sendTo(r *http.Request) (project string, ok bool) {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/projects/")
	if !ok || r.Method != http.MethodPost {
		return "", false
	}
	project, ok = strings.CutSuffix(rest, "/messages:send")
	return project, ok && project != "" && !strings.Contains(project, "/")
}

// ask calls the function set by OnRequest, if there is one.
func (s *Server) ask(r *http.Request, body []byte, token string) *reply {
	f := s.faults.function()
	if f == nil {
		return nil
	}
	a := f(&Request{r.Context(), r.Method, r.URL.Path, r.Proto, r.Header, body, token})
	switch {
	case a == nil || a.zero():
		return nil
	case r.URL.Path == "/token":
		return a.tokenReply()
	default:
		return a.reply()
	}
}

func (s *Server) tooBig() *reply {
	s.problem("a body of more than " + strconv.Itoa(maxBody) + " bytes")
	return tooBig
}
