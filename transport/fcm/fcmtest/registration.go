package fcmtest

import "strings"

// Token returns a registration token such as a phone gets from FCM, the same
// for the same i, another for another, on every Server. The server takes any
// registration token of this form, not only those that it has given.
func (s *Server) Token(i int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	const form = "...........:APA91b" // the instance, and how the rest of every token begins
	const size = 152
	var b [size]byte
	copy(b[:], form)
	// The first number is a bijection of i and fills the instance, so no two
	// tokens are the same.
	state := uint64(i)
	bits, left := mix(&state), 64
	for j := range b {
		if b[j] != '.' && b[j] != 0 {
			continue
		}
		b[j] = alphabet[bits&63]
		bits >>= 6
		if left -= 6; left <= 0 {
			bits, left = mix(&state), 60
		}
	}
	return string(b[:])
}

// mix is splitmix64.
func mix(state *uint64) uint64 {
	*state += 0x9e3779b97f4a7c15
	z := *state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// isRegistrationToken tells whether s has the form of one. Google does not say
// what the form is; a token cut short or with a blank in it has it no more.
func isRegistrationToken(s string) bool {
	instance, rest, ok := strings.Cut(s, ":")
	if !ok || instance == "" || len(rest) < 100 || len(s) > 4096 || !strings.HasPrefix(rest, "APA91b") {
		return false
	}
	return isWords(instance) && isWords(rest)
}

func isWords(s string) bool {
	for i := range len(s) {
		if !isWord(s[i]) {
			return false
		}
	}
	return true
}
