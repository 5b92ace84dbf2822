package payload

import (
	"testing"

	"github.com/fanfare-im/fanfare/transport"
)

// FuzzChoose: a device says what it likes, and gets one of the texts, the same each time.
func FuzzChoose(f *testing.F) {
	for _, locale := range []string{"zh-Hant-TW", "zh_TW", "en-GB-oed", "x-private", "de-DE-u-co-phonebk", "i-klingon", "\xff", "en-", ""} {
		f.Add(locale)
	}
	texts, err := NewTexts(&transport.Content{Locales: map[string]transport.Text{"zh-Hant": {}, "zh": {}, "en": {}, "de-CH": {}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, locale string) {
		name := texts.Choose(locale)
		if _, is := texts.byName[name]; !is && name != "" || name != texts.Choose(locale) {
			t.Fatalf("%q", name)
		}
	})
}
