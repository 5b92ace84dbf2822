package fcmtest

import "strings"

// condition reads a boolean expression over topics, such as
//
//	'news' in topics && ('en' in topics || !('de' in topics))
type condition struct {
	rest   string
	topics int
}

// badCondition says what is wrong with a condition, or nothing.
func badCondition(s string) string {
	c := &condition{rest: s}
	if text := c.expression(); text != "" {
		return text
	}
	if c.rest = strings.TrimSpace(c.rest); c.rest != "" {
		return "unexpected " + c.rest
	}
	if c.topics > maxTopics {
		return "more than five topics"
	}
	return ""
}

func (c *condition) take(what string) bool {
	rest, ok := strings.CutPrefix(strings.TrimLeft(c.rest, " "), what)
	if ok {
		c.rest = rest
	}
	return ok
}

func (c *condition) expression() string {
	for {
		if text := c.term(); text != "" {
			return text
		}
		if !c.take("&&") && !c.take("||") {
			return ""
		}
	}
}

func (c *condition) term() string {
	for c.take("!") {
	}
	if c.take("(") {
		if text := c.expression(); text != "" {
			return text
		}
		if !c.take(")") {
			return "a parenthesis is not closed"
		}
		return ""
	}
	for _, quote := range []string{"'", `"`} {
		if !c.take(quote) {
			continue
		}
		topic, rest, ok := strings.Cut(c.rest, quote)
		if !ok || !isTopic(topic) {
			return "a topic is not valid"
		}
		c.rest = rest
		c.topics++
		if !c.take("in") || !c.take("topics") {
			return "expected 'topic' in topics"
		}
		return ""
	}
	return "expected 'topic' in topics"
}
