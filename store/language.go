package store

import "strings"

// maxSubtags is how many parts of a locale count as its language: language, script, region, and one variant.
const maxSubtags = 4

// Languages returns the languages that a device with a locale speaks, from the widest: of zh_hant-TW these are zh, zh-Hant and
// zh-Hant-TW. They are in the case that BCP 47 recommends. Of a locale that begins with no language there are none; an
// extension, a variant beyond the first, and what follows a dot or an at sign as in de_DE.UTF-8, is left out.
func Languages(locale string) (list []string) {
	parts := subtags(locale)
	var b strings.Builder
	for i, part := range parts[:min(len(parts), maxSubtags)] {
		if len(part) < 2 || len(part) > 8 || !isSubtag(part, i == 0) {
			break
		}
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(subtagCase(part, i))
		list = append(list, b.String())
	}
	return list
}

// CanonicalLanguage returns a language as Languages has it, or what was given if it is none that a device can be said to speak.
func CanonicalLanguage(tag string) string {
	if list := Languages(tag); len(list) > 0 && len(list) == len(subtags(tag)) {
		return list[len(list)-1]
	}
	return tag
}

func subtags(locale string) []string {
	if i := strings.IndexAny(locale, ".@"); i >= 0 {
		locale = locale[:i]
	}
	return strings.FieldsFunc(locale, func(r rune) bool { return r == '-' || r == '_' })
}

func isSubtag(s string, letters bool) bool {
	for _, c := range []byte(s) {
		letter, digit := 'a' <= c|0x20 && c|0x20 <= 'z', '0' <= c && c <= '9'
		if !letter && (letters || !digit) {
			return false
		}
	}
	return true
}

// subtagCase writes a region in capitals and a script with one.
func subtagCase(s string, i int) string {
	s = strings.ToLower(s)
	switch {
	case i > 0 && len(s) == 2:
		return strings.ToUpper(s)
	case i > 0 && len(s) == 4 && s[0] > '9':
		return strings.ToUpper(s[:1]) + s[1:]
	}
	return s
}
