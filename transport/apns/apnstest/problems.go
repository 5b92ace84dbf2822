package apnstest

import "slices"

// maxProblems is how many different problems are kept; one is enough to fail a
// test.
const maxProblems = 100

type problems []string

// problem notes what a client did wrong and APNs does not refuse.
func (s *Server) problem(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.problems) < maxProblems && !slices.Contains(s.problems, what) {
		s.problems = append(s.problems, what)
	}
}

// Problems returns what was wrong with requests that APNs would have accepted
// all the same, with a device showing nothing or something else: an aps key with
// a value of the wrong type, an apns-push-type that is missing. Each is told
// once, and no more than 100. A good client has none.
func (s *Server) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.problems)
}
