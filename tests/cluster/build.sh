#!/usr/bin/env bash
# Build a Kubernetes control plane out of Debian 12's source package, which no binary package has: build.sh FOLDER
# FOLDER gets the programs; FOLDER.build holds the source and what is built until they are whole, so that a stopped build goes on where it was.
# Needs golang-1.19-go, dpkg-dev, rsync, make, gcc; 3 GB for a while; some ten minutes of two busy cores.
set -euo pipefail

readonly PROGRAMS=(kube-apiserver kube-controller-manager)
out=$1
work=$1.build
sources=/etc/apt/sources.list.d/debian.sources
[ -e "$sources" ] || { echo "no $sources to take the source package from" >&2; exit 1; }

mkdir -p "$work/lists/partial" "$work/archives/partial"
cd "$work"
sed 's/^Types: deb$/Types: deb-src/' "$sources" >src.sources
apt=(apt-get -qq -o "Dir::Etc::sourcelist=$work/src.sources" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work" -o APT::Sandbox::User=)
"${apt[@]}" update
"${apt[@]}" source kubernetes golang-github-modern-go-reflect2
cd kubernetes-1.20*/ 2>/dev/null || { echo "this Debian's source package kubernetes is not 1.20, the last with a whole control plane" >&2; exit 1; }

# Its reflect2 walks maps as Go did before 1.18 and breaks the memory of what Go 1.19 builds; Debian's own copy is mended.
mended=(../golang-github-modern-go-reflect2-*/*.{go,s})
rm vendor/github.com/modern-go/reflect2/*.{go,s}
cp "${mended[@]}" vendor/github.com/modern-go/reflect2/

# rsync is what the tree copies itself with; the version is told to it, since there is no git here to ask.
export PATH=/usr/lib/go-1.19/bin:$PATH GOPROXY=off GOFLAGS=-p=2
export KUBE_GIT_VERSION=v1.20.2 KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20 KUBE_GIT_TREE_STATE=archive
export KUBE_GIT_COMMIT=faecb196815e248d3ecfb03c680a4507229c2a56
make WHAT="${PROGRAMS[*]/#/cmd/}" >"$work/make.log" 2>&1 || { echo "make failed, and says why in $work/make.log" >&2; exit 1; }
for program in "${PROGRAMS[@]}"; do install -m 755 "_output/local/bin/linux/$(go env GOARCH)/$program" "$out/"; done
rm -rf "$work"
