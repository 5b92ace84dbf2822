// Package embedding tests docs/embedding.md: that who follows the page, and nothing else, has what it says.
package embedding
