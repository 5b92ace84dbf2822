package fcmtest

import (
	"slices"
	"sync"
)

// problems are what Problems returns.
type problems struct {
	mu    sync.Mutex
	texts []string
}

func (s *Server) problem(text string) {
	s.problems.mu.Lock()
	defer s.problems.mu.Unlock()
	if len(s.problems.texts) < 100 {
		s.problems.texts = append(s.problems.texts, text)
	}
}

// Problems returns, in words, what a correct client never sends: a message that
// is malformed or breaks a rule, a send without an access token or to another
// project, an assertion that is not right, a path where nothing is. A bad
// registration token, a clock that is wrong and an access token that has expired
// are not among them, for no client can help those. Only the first hundred are
// kept.
func (s *Server) Problems() []string {
	s.problems.mu.Lock()
	defer s.problems.mu.Unlock()
	return slices.Clone(s.problems.texts)
}
