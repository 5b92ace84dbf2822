package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed assets
var assetFiles embed.FS

// asset is a file that the pages load. Its address has its hash, so browsers may keep it for ever.
type asset struct {
	data []byte
	hash string
	kind string
}

// assets are by name. Licences and the README are embedded, but not served.
var assets = loadAssets()

func loadAssets() map[string]asset {
	out := make(map[string]asset)
	for name, kind := range map[string]string{
		"console.css": "text/css; charset=utf-8", "console.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
		"htmx.min.js": "text/javascript; charset=utf-8", "uPlot.iife.min.js": "text/javascript; charset=utf-8", "uPlot.min.css": "text/css; charset=utf-8",
	} {
		data, err := assetFiles.ReadFile("assets/" + name)
		if err != nil {
			panic(err) // it is compiled in
		}
		sum := sha256.Sum256(data)
		out[name] = asset{data, hex.EncodeToString(sum[:8]), kind}
	}
	return out
}

// serveAsset answers with a file, by hash and name.
func serveAsset(w http.ResponseWriter, r *http.Request, name string) {
	hash, name, _ := strings.Cut(name, "/")
	a, ok := assets[name]
	if !ok || a.hash != hash {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(a.data))
}

// Asset is the address of a file that the page loads.
func (v *view) Asset(name string) string {
	return v.Base + path.Join("assets", assets[name].hash, name)
}
