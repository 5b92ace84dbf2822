package apnstest

import (
	"strconv"
	"strings"
	"time"

	"github.com/fanfare-im/fanfare/transport/internal/h2server"
)

// pushTypes has, for each apns-push-type, what is appended to the bundle ID in
// the topic.
var pushTypes = map[string]string{
	"alert":        "",
	"background":   "",
	"location":     ".location-query",
	"voip":         ".voip",
	"complication": ".complication",
	"fileprovider": ".pushkit.fileprovider",
	"mdm":          "",
	"liveactivity": ".push-type.liveactivity",
	"pushtotalk":   ".voip-ptt",
	"widgets":      ".push-type.widgets",
	"controls":     ".push-type.controls",
}

const (
	maxPayload     = 4096
	maxPayloadVoIP = 5120
	maxCollapseID  = 64
)

// push is a request taken apart.
type push struct {
	token, authorization, id, topic, pushType, priority, expiration, collapseID string
	duplicate                                                                   bool
	ownID                                                                       bool // id is the client's, and well-formed
	urgency                                                                     int
	expires                                                                     time.Time
}

func (p *push) parse(r *h2server.Request) {
	*p = push{}
	var given uint8
	for i := range r.Fields {
		var field *string
		var bit uint8
		switch r.Fields[i].Name {
		case "authorization":
			field, bit = &p.authorization, 1
		case "apns-id":
			field, bit = &p.id, 2
		case "apns-topic":
			field, bit = &p.topic, 4
		case "apns-push-type":
			field, bit = &p.pushType, 8
		case "apns-priority":
			field, bit = &p.priority, 16
		case "apns-expiration":
			field, bit = &p.expiration, 32
		case "apns-collapse-id":
			field, bit = &p.collapseID, 64
		default:
			continue
		}
		p.duplicate = p.duplicate || given&bit != 0
		given |= bit
		*field = r.Fields[i].Value
	}
	p.ownID = isUUID(p.id)
	if rest, ok := strings.CutPrefix(r.Path, "/3/device/"); ok {
		p.token = lower(rest)
	}
}

// target returns what is wrong with method and path.
func (s *Server) target(r *h2server.Request, p *push) string {
	switch {
	case r.Method != "POST":
		return "MethodNotAllowed"
	case r.Path == "/3/device" || r.Path == "/3/device/":
		return "MissingDeviceToken"
	case p.token == "" || strings.ContainsAny(p.token, "/?"):
		return "BadPath"
	}
	return ""
}

// header returns what is wrong with the headers, without the provider's token.
func (s *Server) header(c *conn, p *push) string {
	if p.duplicate {
		return "DuplicateHeaders"
	}
	if p.id != "" && !p.ownID {
		return "BadMessageId"
	}
	if !isDeviceToken(p.token) || s.known != nil && !s.known[p.token] {
		return "BadDeviceToken"
	}
	if reason := s.topic(c, p); reason != "" {
		return reason
	}
	if reason := s.pushType(p); reason != "" {
		return reason
	}
	if p.expiration != "" {
		seconds, err := strconv.ParseUint(p.expiration, 10, 62)
		if err != nil {
			return "BadExpirationDate"
		}
		p.expires = time.Unix(int64(seconds), 0)
	}
	if len(p.collapseID) > maxCollapseID {
		return "BadCollapseId"
	}
	return ""
}

func (s *Server) pushType(p *push) string {
	suffix, known := pushTypes[p.pushType]
	switch {
	case p.pushType == "":
		s.problem("apns-push-type is missing")
		p.pushType = "alert"
	case !known:
		return "InvalidPushType"
	case suffix != "" && !strings.HasSuffix(p.topic, suffix):
		s.problem("apns-push-type " + p.pushType + " with a topic that does not end in " + suffix)
	}
	switch p.priority {
	case "":
		p.urgency = 10
		if p.pushType == "background" {
			s.problem("apns-priority is missing, which means 10, with apns-push-type background")
		}
	case "1":
		p.urgency = 1
	case "5":
		p.urgency = 5
	case "10":
		p.urgency = 10
		if p.pushType == "background" {
			return "BadPriority"
		}
	default:
		return "BadPriority"
	}
	return ""
}

func (s *Server) topic(c *conn, p *push) string {
	if p.topic == "" {
		if len(c.topics) != 1 {
			return "MissingTopic"
		}
		p.topic = c.topics[0]
	}
	if !isTopic(p.topic) {
		return "BadTopic"
	}
	if s.topics != nil && !s.topics[p.topic] && !s.topics[bundle(p.topic)] {
		return "TopicDisallowed"
	}
	if c.certificate == certificateGood {
		for _, t := range c.topics {
			if t == p.topic || t == bundle(p.topic) {
				return ""
			}
		}
		return "TopicDisallowed"
	}
	return ""
}

// bundle returns the bundle ID that a topic belongs to.
func bundle(topic string) string {
	for _, suffix := range pushTypes {
		if suffix != "" && strings.HasSuffix(topic, suffix) {
			return topic[:len(topic)-len(suffix)]
		}
	}
	return topic
}

func isTopic(s string) bool {
	for i := range len(s) {
		ch := s[i]
		if !('a' <= ch && ch <= 'z' || 'A' <= ch && ch <= 'Z' || '0' <= ch && ch <= '9' || ch == '.' || ch == '-' || ch == '_') {
			return false
		}
	}
	return len(s) <= 255
}

// isDeviceToken allows for tokens longer than today's 32 bytes, up to the 100
// that Apple names as the most.
func isDeviceToken(s string) bool {
	return len(s) >= 64 && len(s) <= 200 && len(s)%2 == 0 && isHex(s)
}

func isHex(s string) bool {
	for i := range len(s) {
		if ch := s[i]; !('0' <= ch && ch <= '9' || 'a' <= ch && ch <= 'f') {
			return false
		}
	}
	return true
}

func isUUID(s string) bool {
	return len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' &&
		isHex(s[:8]) && isHex(s[9:13]) && isHex(s[14:18]) && isHex(s[19:23]) && isHex(s[24:])
}

// lower is strings.ToLower for a device token, whose case does not matter.
func lower(s string) string {
	if isHex(s) {
		return s
	}
	return strings.ToLower(s)
}
