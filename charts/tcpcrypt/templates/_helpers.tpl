{{- define "tcpcrypt.fullname" -}}
{{- if contains .Release.Name "tcpcrypt" -}}tcpcrypt{{- else -}}{{ printf "tcpcrypt-%s" .Release.Name | trunc 40 | trimSuffix "-" }}{{- end -}}
{{- end }}

{{- define "tcpcrypt.selector" -}}
app.kubernetes.io/name: tcpcrypt
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tcpcrypt.labels" -}}
{{ include "tcpcrypt.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "tcpcrypt.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{- define "tcpcrypt.platform" -}}
{{- if ne .Values.platform "auto" -}}{{ .Values.platform }}
{{- else if contains "-gke" .Capabilities.KubeVersion.Version -}}gke
{{- else if contains "+k3s" .Capabilities.KubeVersion.Version -}}k3s
{{- else if .Capabilities.APIVersions.Has "security.openshift.io/v1" -}}openshift
{{- else -}}generic
{{- end -}}
{{- end }}

{{/* A platform's facts: where CNI executables and configurations are, the kubelet's folder, whether chaining works. */}}
{{- define "tcpcrypt.platforms" -}}
generic:   {binDir: /opt/cni/bin, confDir: /etc/cni/net.d, kubeletDir: /var/lib/kubelet, chaining: true}
gke:       {binDir: /home/kubernetes/bin, confDir: /etc/cni/net.d, kubeletDir: /var/lib/kubelet, chaining: true}
k3s:       {binDir: /var/lib/rancher/k3s/data/cni, confDir: /var/lib/rancher/k3s/agent/etc/cni/net.d, kubeletDir: /var/lib/kubelet, chaining: true}
microk8s:  {binDir: /var/snap/microk8s/current/opt/cni/bin, confDir: /var/snap/microk8s/current/args/cni-network, kubeletDir: /var/snap/microk8s/common/var/lib/kubelet, chaining: true}
# Multus writes the configuration that the runtime reads anew from its own; an entry in it does not stay.
openshift: {binDir: /var/lib/cni/bin, confDir: /etc/cni/multus/net.d, kubeletDir: /var/lib/kubelet, chaining: false}
{{- end }}

{{/* JSON of the node's folders, values before platform. */}}
{{- define "tcpcrypt.node" -}}
{{- $platform := get (include "tcpcrypt.platforms" . | fromYaml) (include "tcpcrypt.platform" .) -}}
{{- $agent := .Values.nodeAgent -}}
{{- $chaining := $platform.chaining -}}
{{- if not (kindIs "invalid" $agent.cni.enabled) }}{{ $chaining = $agent.cni.enabled }}{{ end -}}
{{- dict
  "binDir" ($agent.cni.binDir | default $platform.binDir)
  "confDir" ($agent.cni.confDir | default $platform.confDir)
  "kubeletDir" ($agent.kubeletDir | default $platform.kubeletDir)
  "chaining" $chaining | toJson -}}
{{- end }}

{{/* The default policy as a policy document. */}}
{{- define "tcpcrypt.policy" -}}
{{- $given := .Values.policy -}}
{{- $rules := $given.rules -}}
{{- if and (eq $given.offer "PrivateNetworks") (ne $given.mode "Disabled") -}}
{{- $peers := list -}}
{{- range concat (list "10.0.0.0/8" "172.16.0.0/12" "192.168.0.0/16" "100.64.0.0/10" "fc00::/7") .Values.cluster.cidrs -}}
{{- $peers = append $peers (dict "cidr" .) -}}
{{- end -}}
{{- $rules = concat $rules (list
  (dict "direction" "Outbound" "peers" $peers "mode" $given.mode)
  (dict "direction" "Outbound" "mode" "Disabled")) -}}
{{- end -}}
{{- $policy := dict "mode" $given.mode "authentication" $given.authentication "rules" $rules -}}
{{- range $name := list "sessionCache" "algorithms" "rekey" -}}
{{- with get $given $name }}{{ $_ := set $policy $name . }}{{ end -}}
{{- end -}}
{{- toJson $policy -}}
{{- end }}
