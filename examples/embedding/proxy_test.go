package embedding

import (
	"archive/zip"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// goProxy lets "go get" find this source tree as the newest version of fanfare, and of the other modules those that this module
// requires. They come from where this test's have been put, so that no network is needed if it has been built. It returns the
// settings of the environment.
func goProxy(t *testing.T, root string) []string {
	t.Helper()
	const fanfare, version = "github.com/fanfare-im/fanfare", "v0.1.0"
	proxy := t.TempDir()
	put := func(module, version string) string {
		dir := filepath.Join(proxy, filepath.FromSlash(module), "@v")
		must(t, os.MkdirAll(dir, 0o700))
		must(t, os.WriteFile(filepath.Join(dir, "list"), []byte(version+"\n"), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, version+".info"), []byte(`{"Version":"`+version+`"}`), 0o600))
		return filepath.Join(dir, version)
	}
	prefix := put(fanfare, version)
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	must(t, err)
	must(t, os.WriteFile(prefix+".mod", mod, 0o600))
	archive, err := os.Create(prefix + ".zip")
	must(t, err)
	must(t, zipModule(archive, root, fanfare+"@"+version+"/"))
	must(t, archive.Close())
	pgx := goOutput(t, "list", "-m", "-f", "{{.Path}} {{.Version}}", "github.com/jackc/pgx/v5")
	path, pgxVersion, _ := strings.Cut(pgx, " ")
	put(path, pgxVersion)
	return []string{
		"GOPROXY=file://" + proxy + ",file://" + filepath.Join(goOutput(t, "env", "GOMODCACHE"), "cache", "download") + "," + goOutput(t, "env", "GOPROXY"),
		"GOMODCACHE=" + t.TempDir(), "GOFLAGS=-modcacherw -trimpath", "GOSUMDB=off", "GOWORK=off", "GOTOOLCHAIN=local",
	}
}

func goOutput(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

// zipModule writes what a module's zip has: the tree without its tests and without the modules in it.
func zipModule(w io.Writer, root, prefix string) error {
	z := zip.NewWriter(w)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, err := os.Stat(filepath.Join(name, "go.mod"))
			if name != root && (err == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		in, err := os.Open(name)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := z.Create(prefix + filepath.ToSlash(relative))
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		return err
	})
	if err != nil {
		return err
	}
	return z.Close()
}
