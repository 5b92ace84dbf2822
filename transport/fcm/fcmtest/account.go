package fcmtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"sync"
)

// account is the service account of a server. The key is shared by all servers
// of the process, for one takes long to make.
type account struct {
	key   *rsa.PrivateKey
	keyID string
	email string
	json  []byte
}

var accountKey = sync.OnceValues(func() (*rsa.PrivateKey, error) {
	return rsa.GenerateKey(rand.Reader, 2048)
})

func newAccount(project, url string) (*account, error) {
	key, err := accountKey()
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var id [20]byte
	rand.Read(id[:]) // never fails
	a := &account{
		key:   key,
		keyID: hex.EncodeToString(id[:]),
		email: "firebase-adminsdk@" + project + ".iam.gserviceaccount.com",
	}
	a.json, err = json.MarshalIndent(map[string]string{
		"type":                        "service_account",
		"project_id":                  project,
		"private_key_id":              a.keyID,
		"private_key":                 string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email":                a.email,
		"client_id":                   "100000000000000000001",
		"auth_uri":                    url + "/auth",
		"token_uri":                   url + "/token",
		"auth_provider_x509_cert_url": url + "/certs",
		"client_x509_cert_url":        url + "/robot/" + a.email,
		"universe_domain":             "googleapis.com",
	}, "", "  ")
	return a, err
}

// ServiceAccount returns the JSON of a service account that may send, as the
// Firebase console gives it out, with the server's own token endpoint in it.
// Its RSA key of 2048 bits is the same for all servers of a process, its key id
// is not. The slice is the caller's.
func (s *Server) ServiceAccount() []byte { return append([]byte(nil), s.account.json...) }
